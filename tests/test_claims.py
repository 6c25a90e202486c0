"""What the README and the notebook's text claim: tables, links, files, options, no results."""

import re

import cells
import numpy as np
import readme_tables
from PIL import Image

README = readme_tables.README.read_text(encoding="utf-8")
CODE = "\n".join(cell.source for _, cell in cells.code_cells())
TEXT = "\n".join(cell.source for cell in cells.read().cells if cell.cell_type == "markdown")
PROSE, SOLUTIONS = ("".join(TEXT.split("```")[start::2]) for start in (0, 1))
DECIMALS = {  # that the notebook's prose may hold: outputs say how much, and sentences go stale
    "99.5 %": "the opening's claim, which the last cell asserts",
    "0.7": "what the logarithm of 1/2 costs",
    "4.6": "what the logarithm of 1/100 costs",
}
NOT_IN_CODE = {"jit_compile"}  # names in the prose that no cell uses


def test_prose_holds_no_results():
    found = set(re.findall(r"\d+\.\d+ %|\d+ %|\d+\.\d+", PROSE))
    assert found <= set(DECIMALS), "leave it to an output, or add it to DECIMALS with a reason"


def test_opening_claims_what_the_last_cell_asserts():
    claim = re.search(r"([\d.]+) %", PROSE)[1]
    floors = re.findall(r"assert test_accuracy > ([\d.]+)", cells.code_cells()[-1][1].source)
    assert [float(claim)] == [100 * float(floor) for floor in floors]


def test_names_in_the_prose_are_in_the_code():
    named = set(re.findall(r"`([a-z]\w*_\w+)\b[^`]*`", PROSE))
    assert {name for name in named if name not in CODE + SOLUTIONS} <= NOT_IN_CODE


def test_files_and_options_that_are_named_exist():
    text = README + PROSE
    files = re.findall(r"`([\w./-]+\.(?:py|md|in|txt|ipynb))`|\]\((?!http|#)([^)#]+)\)", text)
    missing = {name for pair in files for name in pair if not (cells.ROOT / name).exists()}
    assert not missing
    options = set(re.findall(r"(?<!\w)--\w+", text)) - {"--upgrade", "--with"}  # uv's
    assert options <= set(re.findall(r"--\w+", (cells.ROOT / "run.py").read_text()))


def test_committed_run_agrees_with_itself():
    _, accuracy, low, high, errors = map(float, readme_tables.evaluation())
    assert accuracy == round(1 - errors / 10000, 4)
    assert low < accuracy < high


def test_readme_is_made_from_the_records():
    assert readme_tables.render(README) == README, "run benchmarks/readme_tables.py"
    settings = cells.code_cells("parameters")[0][1].source
    assert readme_tables.settings().count("\n") == 1 + len(settings.splitlines())


def test_readme_is_short_and_so_are_its_pictures():
    assert len(README.splitlines()) <= 155
    links = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert sum((cells.ROOT / link).stat().st_size for link in links) < 150_000
    picture = np.asarray(Image.open(cells.ROOT / "docs" / "errors.png").convert("RGB"), float)
    assert np.abs(picture - np.asarray(readme_tables.misread().convert("RGB"))).mean() < 2


def test_readme_lines_read_a_digit(notebook, tmp_path):
    (lines,) = re.findall(r"```python\n(.+?)```", README, re.S)
    model = notebook.build_cnn()
    features = model.get_layer("features").output
    network = notebook.keras.Model(model.inputs, [features, model.outputs[0]])
    nearest = notebook.NearestNeighbors(n_neighbors=5).fit(-np.eye(96))
    space = dict(vars(notebook), reader=(network, nearest, 0, 0))
    distance = np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
    Image.fromarray(np.uint8(255 * (distance > 9))).save(photo := tmp_path / "photo.jpg")
    exec(lines.replace('"photo.jpg"', repr(str(photo))), space)
    assert space["label"] == notebook.NOT_SURE
