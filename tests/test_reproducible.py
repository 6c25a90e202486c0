"""Two headless runs on this machine agree to the last bit; another seed does not."""

import tempfile
from pathlib import Path

import cells
from nbclient import NotebookClient

VARIES = (  # what shows times, or, in the comparison at equal time, follows from them
    "fit_seconds",
    "seconds_per_batch(lambda",
    "accuracy_table(runs,",
    'plot_runs(runs, recorded, "augmentation"',
)


def execute(tmp_path):
    """Execute the notebook in a fresh kernel on the sample for one epoch; return its outputs."""
    notebook = cells.read()
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
        other, _ = execute(tmp_path)
    name = "SHA-256 of the trained weights:"
    assert printed(first, name) == printed(second, name) != printed(other, name)
    for index, (one, two) in enumerate(zip(first, second)):
        if not any(text in notebook.cells[index].source for text in VARIES):
            assert one == two, f"cell {index} gave two different outputs"
    assert "5,000 of 70,000 digits" in str(first), "the note on the small sample is missing"
