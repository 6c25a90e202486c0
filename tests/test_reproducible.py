"""Two headless runs on this machine agree to the last bit; another seed does not.

And what may differ elsewhere (threads, processors) stays inside the notebook's own bands.
"""

import json
import tempfile
from pathlib import Path

import cells
from nbclient import NotebookClient

VARIES = (  # what shows times, or, in the comparison at equal time, follows from them
    "fit_seconds",
    "seconds_per_batch(lambda",
    'plot_runs(runs, recorded, "augmentation"',
)


def execute(tmp_path, end=None):
    """Execute the notebook in a fresh kernel on the sample for one epoch; return its outputs.

    It stops before the cell that begins with `end`, if that is given.
    """
    notebook = cells.read()
    sources = [cell.source for cell in notebook.cells]
    stop = next((i for i, source in enumerate(sources) if end and source.startswith(end)), None)
    notebook.cells = notebook.cells[:stop]
    changes = {**cells.OFFLINE, "KERAS_HOME": tmp_path, "MNIST_EPOCHS": 1}
    with cells.environment(**changes), tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": str(cells.workplace(Path(folder)))}}
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=place, coalesce_streams=True
        ).execute()
    return [cell.get("outputs", []) for cell in notebook.cells], notebook


def printed(outputs, start):
    """Return the printed line that begins with `start`."""
    texts = [output.get("text", "") for cell in outputs for output in cell]
    (line,) = [line for text in texts for line in text.splitlines() if line.startswith(start)]
    return line


def test_two_headless_runs_are_identical_and_another_seed_is_not(tmp_path):
    (first, notebook), (second, _) = execute(tmp_path), execute(tmp_path)
    with cells.environment(MNIST_SEED=2):
        other, _ = execute(tmp_path, end="## 7.")
    name = "SHA-256 of the trained weights:"
    assert printed(first, name) == printed(second, name) != printed(other, name)
    for index, (one, two) in enumerate(zip(first, second)):
        if not any(text in notebook.cells[index].source for text in VARIES):
            assert one == two, f"cell {index} gave two different outputs"
    assert "5,000 of 70,000 digits" in str(first), "the note on the small sample is missing"


def determinism():
    """Return the runs of benchmarks/determinism.py, a dict by name."""
    record = json.loads((cells.ROOT / "benchmarks" / "determinism.json").read_text())
    return {run["row"]: run for run in record["runs"]}


def test_other_threads_and_processors_stay_inside_the_bands():
    runs = determinism()
    assert list(runs) == ["as it is", "once more", "1 thread", "AVX2", "SSE4.1"]
    assert runs["as it is"]["weights"] == runs["once more"]["weights"]
    space = {}
    ((index, cell),) = [c for c in cells.code_cells() if c[1].source.startswith("RECORDED_WITH")]
    cells.run_cell(index, cell, space)
    for name, run in runs.items():
        for metric, (value, tolerance) in space["RECORDED"]["full set"].items():
            if metric in run:
                assert abs(run[metric] - value) <= tolerance, f"{metric} of {name}"


def test_readme_says_what_was_measured():
    runs, readme = determinism(), (cells.ROOT / "README.md").read_text()
    same = runs["as it is"]
    for name in ("1 thread", "AVX2", "SSE4.1"):
        run = runs[name]
        bits = "the same bits" if run["weights"] == same["weights"] else "other bits"
        row = f"| {name} | {bits} | {run['test_accuracy']:.4f} | {run['test_loss']:.4f} |"
        assert row in readme
    assert f"| as it is, twice | the same bits | {same['test_accuracy']:.4f} " in readme
