"""What the README and the notebook's text claim: records, links, options, no stale numbers."""

import re
import sys

import cells
import numpy as np
from PIL import Image

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import readme_tables  # noqa: E402

README = readme_tables.README.read_text(encoding="utf-8")


def prose(first, last):
    """Return the notebook's text from the heading `first` to `last`."""
    text = "\n".join(cell.source for cell in cells.read().cells if cell.cell_type == "markdown")
    return text[text.index(first) : text.index(last)]


def test_opening_claims_what_the_last_cell_asserts():
    (claim,) = re.findall(r"more than ([\d.]+) % of MNIST's", prose("# Digit", "## 1."))
    last = cells.code_cells()[-1][1].source
    (floor,) = re.findall(r"assert test_accuracy > ([\d.]+)", last)
    assert float(claim) == 100 * float(floor)


def test_prose_of_the_first_lesson_holds_no_result():
    """Outputs say how much; what stands in a sentence goes stale."""
    numbers = re.findall(r"\d+\.\d+|\d+ %", prose("## 1.", "## 9."))
    assert numbers == ["0.7", "4.6"], "only what the logarithm of 1/2 and of 1/100 costs"


def test_committed_run_agrees_with_itself():
    _, accuracy, low, high, errors = map(float, readme_tables.evaluation())
    assert accuracy == round(1 - errors / 10000, 4)
    assert low < accuracy < high


def test_readme_is_made_from_the_records():
    assert readme_tables.render(README) == README


def test_readme_tables_leave_nothing_out():
    source = readme_tables.cell_with("\nEPOCHS = ").source
    assert readme_tables.settings().count("\n") == 1 + len(source.splitlines())
    assert readme_tables.pictures().count("\n") == 1 + 6


def test_readme_pictures_are_small_and_that_of_errors_is_the_notebooks():
    links = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert sum((cells.ROOT / link).stat().st_size for link in links) < 150_000
    picture = np.asarray(Image.open(cells.ROOT / "docs" / "errors.png").convert("RGB"), float)
    assert np.abs(picture - np.asarray(readme_tables.misread().convert("RGB"))).mean() < 2


def test_readme_is_short_and_starts_with_the_two_commands():
    assert len(README.splitlines()) <= 155
    commands = re.findall(r"```bash\n(.+?)\n```", README)
    assert commands == ["python run.py", "python run.py test"]


def test_readme_names_options_that_run_py_has():
    options = set(re.findall(r"`(?:python run.py.*? )?(--(?!write|upgrade)\w+)`", README))
    known = (cells.ROOT / "run.py").read_text(encoding="utf-8").split('"""')[1]
    assert options == set(re.findall(r"--\w+", known))


def test_readme_gives_every_dependency_a_reason():
    named = re.findall(r"(?m)^\| ([a-z][\w, -]*) \| \w", README.split("| package | what for |")[1])
    listed = ", ".join(named).split(", ")
    text = (cells.ROOT / "requirements.in").read_text()
    assert sorted(listed) == sorted(re.findall(r"(?m)^([\w-]+)", text))


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (cells.ROOT / target).exists(), target


STROKE = np.uint8(200 * (np.abs(np.subtract.outer(np.arange(28), np.arange(28))) < 3))


def test_readme_lines_read_a_digit(notebook, tmp_path):
    (lines,) = re.findall(r"```python\n(.+?)```", README, re.S)
    model = notebook.build_cnn()
    features = model.get_layer("features").output
    network = notebook.keras.Model(model.inputs, [features, model.outputs[0]])
    space = dict(vars(notebook), reader=notebook.Reader(network, -np.eye(96), max_distance=0))
    photo = notebook.photograph(STROKE[None], np.random.default_rng(0))
    (tmp_path / "photo.jpg").write_bytes(photo)
    lines = lines.replace('"photo.jpg"', repr(str(tmp_path / "photo.jpg")))
    exec(lines, space)
    assert space["label"] == notebook.NOT_SURE
