"""The checks check: a fault that someone could make is found. See mutants.py."""

import subprocess
import sys

import mutants
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="a safe fork is only to be had on Linux")
def test_every_fault_that_needs_no_training_is_found():
    command = [sys.executable, mutants.__file__, "--fast"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
