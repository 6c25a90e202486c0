"""The files around the notebook: workflows, style, dependencies."""

import re
import subprocess
import sys
from pathlib import Path

import cells
import pytest

GITHUB = cells.ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
SCHEMA = ["check-jsonschema", "--builtin-schema"]
CHECKS = {
    "zizmor": ["zizmor", "--offline", "--strict-collection", GITHUB],
    "workflow schema": [*SCHEMA, "vendor.github-workflows", *WORKFLOWS],
    "dependabot schema": [*SCHEMA, "vendor.dependabot", GITHUB / "dependabot.yml"],
    "ruff": ["ruff", "check", "--no-cache", cells.ROOT],
    "ruff format": ["ruff", "format", "--check", "--no-cache", cells.ROOT],
}


@pytest.mark.parametrize("check", CHECKS)
def test_static_check(check):
    program, *arguments = CHECKS[check]
    program = Path(sys.executable).with_name(program)
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_imported_is_a_direct_dependency():
    """No cell, test or script leans on a package that is only there for another one's sake."""
    provides = {"sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow"}
    provides["traitlets"] = "anywidget"
    scripts = [cells.ROOT.glob(f"{folder}*.py") for folder in ("", "tests/", "benchmarks/")]
    scripts = [path for found in scripts for path in found]
    sources = [path.read_text(encoding="utf-8") for path in scripts]
    sources += [cell.source for _, cell in cells.code_cells()]
    imported = set(re.findall(r"(?m)^\s*(?:import|from) (\w+)", "\n".join(sources)))
    outside = imported - set(sys.stdlib_module_names) - {path.stem for path in scripts}
    listed = re.findall(r"(?m)^([\w-]+)", (cells.ROOT / "requirements.in").read_text())
    assert {provides.get(name, name) for name in outside} <= set(listed)
