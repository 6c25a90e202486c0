"""The checks check: a fault that someone could make is found. See mutants.py."""

import subprocess
import sys

import cells
import mutants
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="a safe fork is only to be had on Linux")
def test_every_fault_that_needs_no_training_is_found():
    script = cells.ROOT / "tests" / "mutants.py"
    command = [sys.executable, script, "--fast", "--trust"]  # unchanged, this session tries them
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{len(mutants.all_mutants(fast=True))} faults found" in done.stdout
