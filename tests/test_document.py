"""The notebook as a document: complete, in order, executed once from a fresh kernel."""

import ast
import base64
import html
import io
import json
import re
import statistics

import cells
import numpy as np
import pytest
from nbconvert import HTMLExporter
from PIL import Image

NOTEBOOK = cells.read()
CODE = cells.code_cells()
SECTIONS = [
    "1. Imports",
    "2. Data loading",
    "3. Data preprocessing",
    "4. Model definition",
    "5. Model compilation",
    "6. Model training",
    "7. Model evaluation",
    "8. Visualization",
    "9. Your own handwriting",
    "10. Taking the model away",
    "11. Extensions",
    "12. Where it breaks",
]


def headings(level):
    found = []
    for cell in NOTEBOOK.cells:
        if cell.cell_type == "markdown":
            found += re.findall(rf"(?m)^#{{{level}}} (.+)$", cell.source)
    return found


def definition_nodes():
    """Yield (cell index, node) of every function and class at the top level of a cell."""
    for index, cell in CODE:
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield index, node


def test_sections_in_order():
    assert len(headings(1)) == 1
    assert headings(2)[: len(SECTIONS)] == SECTIONS
    assert headings(2)[-1] == "Conclusion"


def test_contents_links_lead_to_headings():
    anchors = {title.replace(" ", "-") for level in (2, 3) for title in headings(level)}
    text = "\n".join(c.source for c in NOTEBOOK.cells if c.cell_type == "markdown")
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert set(links) <= anchors
    assert {title.replace(" ", "-") for title in SECTIONS} <= set(links)


def test_contents_links_work_in_the_html_export():
    body, _ = HTMLExporter().from_notebook_node(NOTEBOOK)
    links = re.findall(r'href="#([^"]+)"', body)
    targets = set(re.findall(r'id="([^"]+)"', body))
    assert len(links) > len(SECTIONS)
    assert {html.unescape(link) for link in links} <= targets


def test_executed_once_from_a_fresh_kernel():
    assert [cell.execution_count for _, cell in CODE] == list(range(1, len(CODE) + 1))
    for index, cell in CODE:
        for output in cell.outputs:
            assert output.output_type != "error", f"cell {index} failed"
            assert output.get("name") != "stderr", f"cell {index} wrote to stderr: {output.text}"


def test_cells_that_print_or_plot_have_outputs():
    for index, cell in CODE:
        if re.search(r"(?m)^(    )?print\(", cell.source):
            assert cell.outputs, f"cell {index} prints, but its output is missing"
        if "definitions" in cells.tags(cell):
            assert not cell.outputs, f"cell {index} only defines, but has an output"


def figures():
    """Return (cell index, PNG image) of each figure of the committed notebook."""
    found = []
    for index, cell in CODE:
        pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(pictures) == cell.source.count("plt.show()"), f"cell {index} lacks its figure"
        found += [(index, Image.open(io.BytesIO(base64.b64decode(data)))) for data in pictures]
    return found


def test_every_figure_is_there_and_shows_something():
    for index, picture in figures():
        assert 500 <= picture.width <= 1300, f"the figure of cell {index} is badly sized"
        assert np.asarray(picture.convert("L")).std() > 5, f"the figure of cell {index} is empty"


def test_a_sentence_follows_every_figure():
    for index, _ in figures():
        after = NOTEBOOK.cells[index + 1]
        assert after.cell_type == "markdown", f"no text follows the figure of cell {index}"
        assert not after.source.startswith("#"), f"no text follows the figure of cell {index}"


def test_definitions_only_define():
    allowed = ast.FunctionDef | ast.ClassDef | ast.Assign
    for index, cell in cells.code_cells("definitions"):
        for node in ast.parse(cell.source).body:
            assert isinstance(node, allowed), f"cell {index}: {ast.unparse(node)}"
            if isinstance(node, ast.Assign):
                calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
                assert not calls, f"cell {index} computes: {ast.unparse(node)}"


def test_every_function_is_defined_once_in_a_tagged_cell_and_documented():
    nodes = list(definition_nodes())
    names = [node.name for _, node in nodes]
    assert sorted(names) == sorted(set(names))
    for index, node in nodes:
        tagged = {"definitions", "imports"} & set(cells.tags(NOTEBOOK.cells[index]))
        assert tagged, f"cell {index} defines {node.name} and is not tagged"
        assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_every_function_is_used():
    source = "\n".join(cell.source for _, cell in CODE)
    for _, node in definition_nodes():
        assert len(re.findall(rf"\b{node.name}\b", source)) > 1, f"{node.name} is never used"


def test_ignored_outputs_have_a_reason():
    known = {"imports", "parameters", "definitions", "nbval-ignore-output"}
    for index, cell in CODE:
        assert set(cells.tags(cell)) <= known, f"cell {index} has an unknown tag"
        ignored = "nbval-ignore-output" in cells.tags(cell)
        assert ignored == bool(cell.metadata.get("reason")), f"cell {index}: tag and reason differ"
        assert not re.search("(?i)# *nbval", cell.source), f"cell {index} hides a marker"


def test_one_parameters_cell_near_the_top():
    ((index, _),) = cells.code_cells("parameters")
    text = "".join(cell.source for cell in NOTEBOOK.cells[:index])
    assert "## 1. Imports" in text
    assert "## 2." not in text


def test_recorded_values_belong_to_the_default_parameters(notebook):
    """The closing check must neither skip itself nor check another run than the default one."""
    space = dict(vars(notebook))
    ((index, cell),) = cells.code_cells("parameters")
    unset = dict.fromkeys(re.findall(r'from_environment\("(\w+)"', cell.source))
    with cells.environment(**{f"MNIST_{name}": None for name in unset}):
        cells.run_cell(index, cell, space)
    index, cell = next((i, c) for i, c in CODE if c.source.startswith("RECORDED_WITH"))
    cells.run_cell(index, cell, space)
    assert list(space["RECORDED_WITH"]) == [
        name for name in unset if name not in ("THREADS", "BUDGET")
    ]
    for name, value in space["RECORDED_WITH"].items():
        assert space[name] == value, f"{name} was changed: record the run again"
    for values in space["RECORDED"].values():
        assert set(values) == {
            "baseline_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
            "calibration_error",
        }  # fmt: skip
        assert all(0 < tolerance < 0.1 for _, tolerance in values.values())


def test_cells_are_short_and_not_too_many():
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for _, cell in CODE]
    assert max(lengths) <= 30
    assert statistics.median(lengths) < 15
    (end,) = [i for i, cell in enumerate(NOTEBOOK.cells) if cell.source.startswith("## 9.")]
    assert end <= 65
    assert len(NOTEBOOK.cells) <= 142
    assert all(len(line) <= 100 for _, cell in CODE for line in cell.source.splitlines())


def test_nothing_of_this_machine_and_no_shell():
    text = json.dumps(NOTEBOOK)
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert "widgets" not in NOTEBOOK.metadata
    for index, cell in CODE:
        assert not re.search(r"(?m)^\s*[!%]", cell.source), f"cell {index} holds a magic"
        assert "execution" not in cell.metadata, f"cell {index} holds timestamps"


@pytest.mark.parametrize("index, cell", CODE, ids=[f"cell {i}" for i, _ in CODE])
def test_compared_text_is_stable(index, cell):
    """Neither times nor addresses nor the fresh metrics of a run stand where nbval compares."""
    if "nbval-ignore-output" in cells.tags(cell):
        return
    for output in cell.outputs:
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        assert not re.search(r"\d s\b|seconds|\bat 0x|<Axes|\.npz", text), text
