"""run.py: what it executes, writes, keeps and refuses, on a notebook of a few lines."""

import subprocess
import sys

import cells
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(cells.ROOT))
import run  # noqa: E402

PARAMETERS = """import os
FACTOR = 7  # for the tests
DATA = os.environ.get("MNIST_DATA", "auto")
"""
SAY = 'print("data:", DATA)'


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
        first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"], "reason": "a test"})
        notebook = new_notebook(cells=[first, *map(new_code_cell, sources)])
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, run.NOTEBOOK)
        return run.NOTEBOOK.read_bytes()

    return write


def executed():
    return nbformat.read(run.BUILD / "small.ipynb", as_version=4)


def test_executes_into_build_with_parameters_and_leaves_the_notebook_alone(project, capfd):
    before = project("print(6 * FACTOR)")
    assert run.main(["-p", "FACTOR", "5"]) == 0
    assert run.NOTEBOOK.read_bytes() == before
    assert executed().cells[-1].outputs[0].text == "30\n"
    assert "30" in (run.BUILD / "small.html").read_text(encoding="utf-8")
    lines = capfd.readouterr().out.splitlines()
    assert "30" in lines
    assert any(line.startswith("Executing: 100%") for line in lines)


def test_update_replaces_the_notebook_without_traces_of_the_run(project):
    before = nbformat.reads(project("import sys\nprint(42)\nprint(1, file=sys.stderr)"), 4)
    assert run.main(["--update"]) == 0
    text = run.NOTEBOOK.read_text(encoding="utf-8")
    after = nbformat.reads(text, 4)
    assert [output.text for output in after.cells[1].outputs] == ["42\n"]
    for name in ("id", "metadata", "source"):
        assert [cell[name] for cell in after.cells] == [cell[name] for cell in before.cells]
    assert list(after.metadata) == ["language_info"]
    assert text == nbformat.writes(after) + "\n"
    assert (run.ROOT / "README.md").read_text() == "tables"
    assert not list(run.ROOT.glob("*.new"))


@pytest.mark.parametrize(
    "options, source, last",
    [
        ([], "1 / 0", "Cell [3], which begins with `1 / 0`, failed: ZeroDivisionError: "),
        (["--update"], "os._exit(1)", "Cell [3], which begins with `os._exit(1)`, failed: its ke"),
    ],
)
def test_a_failing_cell_is_named_and_what_was_done_is_kept(project, capfd, options, source, last):
    before = project(SAY, source, "print('not reached')")
    assert run.main(options) != 0
    assert run.NOTEBOOK.read_bytes() == before
    outputs = [o for cell in executed().cells for o in cell.get("outputs", [])]
    assert outputs[0].text == f"data: {'full' if options else 'auto'}\n"
    assert [o.ename for o in outputs[1:]] == (["ZeroDivisionError"] if source == "1 / 0" else [])
    assert capfd.readouterr().err.splitlines()[-1].startswith(last)


@pytest.mark.parametrize(
    "arguments, data, named",
    [
        (["-p", "FACTR", "5"], "auto", "FACTOR, DATA"),
        (["--update", "-p", "FACTOR", "5"], "auto", "-p"),
        (["--update"], "sample", "MNIST_DATA"),
        (["--uptade"], "auto", "--uptade"),
    ],
)
def test_refused_in_one_line_before_anything_runs(
    project, monkeypatch, capsys, arguments, data, named
):
    project()
    monkeypatch.setenv("MNIST_DATA", data)
    with pytest.raises(SystemExit) as refused:
        run.main(arguments)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert not run.BUILD.exists()


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0)])
def test_other_pythons_are_refused_in_one_sentence(monkeypatch, version):
    monkeypatch.setattr(run.sys, "version_info", version)
    with pytest.raises(SystemExit, match="Python 3.11, 3.12 or 3.13 is needed"):
        run.prepare_environment()


@pytest.fixture
def commands(monkeypatch):
    """The commands that run.py would run; none is run."""
    noted = []

    def note(command, **_):
        noted.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(run.subprocess, "run", note)
    return noted


@pytest.mark.parametrize("uv", ["/bin/uv", None])
def test_installs_the_lock_once_with_uv_or_else_with_pip(tmp_path, monkeypatch, commands, uv):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.shutil, "which", {"uv": uv}.get)
    monkeypatch.setattr(run.venv, "create", lambda folder, **_: folder.mkdir())
    lock = tmp_path / "requirements.txt"
    lock.write_text("")
    python = run.prepare_environment()
    assert run.prepare_environment() == python
    tool = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    assert commands == [[*tool, "--require-hashes", "-r", str(lock)]]


def test_quick_names_files_and_other_options_go_to_pytest(monkeypatch, commands):
    monkeypatch.setattr(run, "prepare_environment", lambda newest: "python")
    options = ["-p", "no:cacheprovider", "-k", "words"]
    assert run.main(["test", "--quick", *options]) == 0
    assert commands == [["python", "-m", "pytest", *run.QUICK, *options]]
    assert all((cells.ROOT / name).exists() for name in run.QUICK)
