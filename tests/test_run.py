"""run.py: what it installs, executes, writes, keeps and refuses, on a notebook of a few lines."""

import subprocess
import sys
from unittest import mock

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import run


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Point run.py at a temporary folder; return a function that writes its notebook."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "BUILD", tmp_path / "build")
    monkeypatch.setattr(run, "NOTEBOOK", tmp_path / "small.ipynb")
    monkeypatch.setattr(run, "prepare_environment", lambda: sys.executable)
    monkeypatch.delenv("MNIST_DATA", raising=False)
    (tmp_path / "benchmarks").mkdir()
    tables = "import pathlib\npathlib.Path('README.md').write_text('tables')\n"
    (tmp_path / "benchmarks" / "readme_tables.py").write_text(tables)

    def write(*sources):
        first = new_code_cell("import os\nFACTOR = 7", metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[new_markdown_cell("#"), first, *map(new_code_cell, sources)])
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, run.NOTEBOOK)
        return run.NOTEBOOK.read_bytes()

    return write


def test_executes_into_build_with_parameters_and_leaves_the_notebook_alone(project):
    before = project("print(6 * FACTOR)")
    assert run.main(["-p", "FACTOR", "5"]) == 0
    assert run.NOTEBOOK.read_bytes() == before
    executed = nbformat.read(run.BUILD / "small.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "30\n"
    assert "30" in (run.BUILD / "small.html").read_text(encoding="utf-8")


def test_update_replaces_the_notebook_without_traces_of_the_run(project):
    before = nbformat.reads(project("import sys\nprint(1, file=sys.stderr)\nprint(os.environ)"), 4)
    assert run.main(["--update"]) == 0
    text = run.NOTEBOOK.read_text(encoding="utf-8")
    after = nbformat.reads(text, 4)
    (output,) = after.cells[2].outputs
    assert output.name == "stdout" and "'MNIST_DATA': 'full'" in output.text
    for name in ("id", "metadata", "source"):
        assert [cell[name] for cell in after.cells] == [cell[name] for cell in before.cells]
    assert list(after.metadata) == ["language_info"]
    assert text == nbformat.writes(after) + "\n"
    assert (run.ROOT / "README.md").read_text() == "tables"


@pytest.mark.parametrize("source, why", [("1 / 0", "error"), ("os._exit(1)", "kernel died")])
def test_a_failing_cell_is_named_and_the_notebook_kept(project, source, why):
    before = project("print(1)", source, "print('not reached')")
    with pytest.raises(SystemExit) as stopped:
        run.main(["--update"])
    assert f"Cell 3, which begins with `{source}`, failed: its {why}" in str(stopped.value)
    assert run.NOTEBOOK.read_bytes() == before


@pytest.fixture
def installations(tmp_path, monkeypatch):
    """The commands of installations, in a project without one; none is run."""
    noted = []
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.venv, "create", lambda folder, **_: folder.mkdir())
    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: noted.append(command))
    (tmp_path / "requirements.txt").write_text("")
    return noted


@pytest.mark.parametrize("uv", ["/bin/uv", None])
def test_installs_the_lock_once_with_uv_or_else_with_pip(monkeypatch, installations, uv):
    monkeypatch.setattr(run.shutil, "which", {"uv": uv}.get)
    python = run.prepare_environment()
    assert run.prepare_environment() == python
    ((*tool, hashes, _, lock),) = installations
    assert tool[:2] == ([uv, "pip"] if uv else [python, "-m"])
    assert (hashes, lock.name) == ("--require-hashes", "requirements.txt")


def test_an_environment_outlives_an_installation_that_fails(monkeypatch, installations):
    run.prepare_environment()
    (run.ROOT / ".venv" / "works").touch()
    (run.ROOT / "requirements.txt").write_text("changed")
    failing = mock.Mock(side_effect=subprocess.CalledProcessError(1, "pip"))
    monkeypatch.setattr(run.subprocess, "run", failing)
    with pytest.raises(SystemExit, match="as it was before"):
        run.prepare_environment()
    assert (run.ROOT / ".venv" / "works").exists()
    assert not (run.ROOT / ".venv-before").exists()
