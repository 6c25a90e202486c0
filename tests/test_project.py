"""The files around the notebook: workflows, lock, style."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import cells
import nbformat
import pytest

WORKFLOW = cells.ROOT / ".github" / "workflows" / "ci.yml"
NEWEST = WORKFLOW.with_name("newest.yml")
DEPENDABOT = cells.ROOT / ".github" / "dependabot.yml"
CHECKS = {
    "zizmor": ["zizmor", "--offline", "--strict-collection", cells.ROOT / ".github"],
    "workflow schema": [
        "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW, NEWEST
    ],
    "dependabot schema": ["check-jsonschema", "--builtin-schema", "vendor.dependabot", DEPENDABOT],
    "ruff": ["ruff", "check", "--no-cache", cells.ROOT],
    "ruff format": ["ruff", "format", "--check", "--no-cache", cells.ROOT],
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_static_check(check):
    program, *arguments = CHECKS[check]
    program = Path(sys.executable).with_name(program)
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mnist_cache_key_is_the_checksum_of_the_file(notebook):
    key = re.search(r"key: mnist-(\w+)", WORKFLOW.read_text())[1]
    assert key in inspect.getsource(notebook.keras.datasets.mnist.load_data)


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning])
@pytest.mark.parametrize("name", ["__main__", "digitclassification"])
def test_deprecations_in_the_notebook_are_errors(category, name):
    source = f"import warnings\nwarnings.warn('this goes away', {category.__name__})"
    with pytest.raises(category, match="this goes away"):
        cells.run_cell(0, nbformat.v4.new_code_cell(source), {"__name__": name})


def requirements():
    """Return the names in requirements.in, the short list of direct dependencies."""
    return re.findall(r"(?m)^([\w-]+)", (cells.ROOT / "requirements.in").read_text())


def test_lock_pins_and_hashes_every_requirement():
    lock = (cells.ROOT / "requirements.txt").read_text()
    for name in requirements():
        assert re.search(rf"(?m)^{name}==\S+.*\\\n    --hash=sha256:", lock), name
    pinned = re.findall(r"(?m)^[a-z].*$", lock)
    assert all("==" in line and line.endswith("\\") for line in pinned)


def test_everything_imported_is_a_direct_dependency():
    """No cell, test or script leans on a package that is only there for another one's sake."""
    provides = {
        "sklearn": "scikit-learn",
        "skimage": "scikit-image",
        "PIL": "pillow",
        "traitlets": "anywidget",
    }
    local = {"cells", "run", "mutants", "peers", "read_pictures", "readme_tables"}
    scripts = [*cells.ROOT.glob("*.py"), *cells.ROOT.glob("tests/*.py")]
    scripts += cells.ROOT.glob("benchmarks/*.py")
    sources = [path.read_text() for path in scripts]
    sources += [cell.source for _, cell in cells.code_cells()]
    imported = set(re.findall(r"(?m)^\s*(?:import|from) (\w+)", "\n".join(sources)))
    outside = imported - set(sys.stdlib_module_names) - local
    assert {provides.get(name, name) for name in outside} <= set(requirements())
