"""run.py: wrong Pythons are refused, and a notebook that fails overwrites nothing."""

import subprocess
import sys

import cells
import nbformat
import pytest

sys.path.insert(0, str(cells.ROOT))
import run  # noqa: E402


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Point run.py at a temporary folder; return a function that writes its notebook."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "BUILD", tmp_path / "build")
    monkeypatch.setattr(run, "NOTEBOOK", tmp_path / "small.ipynb")

    def write(source):
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), run.NOTEBOOK
        )
        return run.NOTEBOOK.read_bytes()

    return write


def test_executes_into_build_and_leaves_the_notebook_alone(project, capsys):
    before = project("print(6 * 7)")
    assert run.execute_notebook(sys.executable, update=False) == 0
    assert run.NOTEBOOK.read_bytes() == before
    executed = nbformat.read(run.BUILD / "small.ipynb", as_version=4).cells[0]
    assert executed.outputs[0].text == "42\n"
    assert "execution" not in executed.metadata
    assert "42" in (run.BUILD / "small.html").read_text()
    assert "build" in capsys.readouterr().out


def test_update_replaces_the_notebook(project):
    project("print(6 * 7)")
    assert run.execute_notebook(sys.executable, update=True) == 0
    assert nbformat.read(run.NOTEBOOK, as_version=4).cells[0].outputs[0].text == "42\n"
    assert sorted(p.name for p in run.ROOT.iterdir()) == ["build", "small.ipynb"]


def test_a_failing_notebook_overwrites_nothing(project, capfd):
    before = project("raise ValueError('broken')")
    assert run.execute_notebook(sys.executable, update=True) != 0
    assert run.NOTEBOOK.read_bytes() == before
    assert not list(run.ROOT.glob("build/*"))
    assert "broken" in capfd.readouterr().err


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0)])
def test_other_pythons_are_refused_in_one_sentence(monkeypatch, version):
    monkeypatch.setattr(run.sys, "version_info", version)
    with pytest.raises(SystemExit, match="Python 3.11, 3.12 or 3.13 is needed"):
        run.prepare_environment()


def test_unknown_options_are_refused():
    done = subprocess.run(
        [sys.executable, cells.ROOT / "run.py", "--uptade"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--uptade" in done.stderr


FULL = """import os, pathlib
assert os.environ["MNIST_BUDGET"] == "full" and os.environ["MNIST_REQUIRE_FULL"] == "1"
with pathlib.Path("build/extensions.jsonl").open("a") as file:
    print("one more run", file=file)
"""


def test_full_budget_shows_progress_and_moves_the_records(project, capfd):
    before = project(FULL)
    (run.ROOT / "benchmarks").mkdir()
    run.BUILD.mkdir()
    (run.BUILD / run.RECORDS).write_text("an earlier run\n")
    (run.BUILD / "search.journal").write_text("")
    assert run.execute_notebook(sys.executable, update=False, full=True) == 0
    assert run.NOTEBOOK.read_bytes() == before
    records = run.ROOT / "benchmarks" / run.RECORDS
    assert records.read_text() == "an earlier run\none more run\n"
    assert not (run.BUILD / run.RECORDS).exists()
    assert not (run.BUILD / "search.journal").exists()
    out = capfd.readouterr().out
    assert out.count("one more run") == 1
    assert "an earlier run" not in out


def test_full_budget_that_fails_keeps_what_was_finished(project):
    project(FULL + "1 / 0")
    (run.ROOT / "benchmarks").mkdir()
    run.BUILD.mkdir()
    assert run.execute_notebook(sys.executable, update=False, full=True) != 0
    assert (run.BUILD / run.RECORDS).read_text() == "one more run\n"
    assert not (run.ROOT / "benchmarks" / run.RECORDS).exists()
