"""The notebook as a document: complete, in order, short, executed once from a fresh kernel."""

import ast
import base64
import html
import io
import json
import re
import statistics
import sys

import cells
import nbformat
import numpy as np
from nbconvert import HTMLExporter
from PIL import Image

NOTEBOOK = cells.read()
CODE = cells.code_cells()
MARKDOWN = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]
LINES = {  # section: how many lines of code it may have
    "1. Imports": 34,
    "2. Data loading": 63,
    "3. Data preprocessing": 61,
    "4. Model definition": 61,
    "5. Model compilation": 15,
    "6. Model training": 41,
    "7. Model evaluation": 16,
    "8. Visualization": 40,
    "9. Your own handwriting": 314,
    "10. Taking the model away": 28,
    "11. Extensions": 154,
    "12. Where it breaks": 64,
    "Conclusion": 25,
}
FIRST_NETWORK, FIRST_TEST = 158, 275  # lines of code before them
WHOLE = 916


OUTPUTS = [(index, output) for index, cell in CODE for output in cell.outputs]
FIGURES = [(i, o.data["image/png"]) for i, o in OUTPUTS if "image/png" in o.get("data", {})]


def headings(level):
    return re.findall(rf"(?m)^#{{{level}}} (.+)$", "\n".join(MARKDOWN))


def lines_of(cell):
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def anchors(titles):
    return {title.replace(" ", "-") for title in titles}


def definition_nodes():
    """Return (cell, node) of every function and class at the top level of a cell."""
    nodes = [(cell, node) for _, cell in CODE for node in ast.parse(cell.source).body]
    return [(c, node) for c, node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def test_sections_in_order():
    assert len(headings(1)) == 1
    assert headings(2) == list(LINES)


def test_links_lead_to_headings_and_every_section():
    links = set(re.findall(r"\]\(#([^)]+)\)", "\n".join(MARKDOWN)))
    assert anchors(LINES) <= links <= anchors(headings(2) + headings(3))
    text = [cell for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]
    body, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=text))
    assert links <= set(map(html.unescape, re.findall(r'id="([^"]+)"', body)))


def test_length_is_within_the_budgets():
    lengths, section, before = dict.fromkeys(LINES, 0), "", {}
    for cell in NOTEBOOK.cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"(?m)^## (.+)$", cell.source) or [section])[-1]
        else:
            for step in (".fit(", ".evaluate(x_test"):
                if step in cell.source:
                    before.setdefault(step, sum(lengths.values()))
            lengths[section] += lines_of(cell)
    assert {name: n for name, n in lengths.items() if n > LINES[name]} == {}
    assert sum(lengths.values()) <= WHOLE
    assert before[".fit("] <= FIRST_NETWORK and before[".evaluate(x_test"] <= FIRST_TEST
    assert len(NOTEBOOK.cells) <= 131
    assert len(MARKDOWN) >= 0.65 * len(CODE)


def test_cells_are_short():
    lengths = [lines_of(cell) for _, cell in CODE]
    assert max(lengths) <= 28
    assert statistics.median(lengths) <= 15
    assert all(len(line) <= 100 for _, cell in CODE for line in cell.source.splitlines())


def test_the_way_to_the_first_figure_is_short():
    imports = re.findall(r"(?m)^(?:import|from) (\w+)", cells.code_cells("imports")[0][1].source)
    assert len(imports) <= 16
    tensorflow_matplotlib_sklearn = {"tensorflow", "keras", "numpy", "matplotlib", "sklearn"}
    others = set(imports) - sys.stdlib_module_names - tensorflow_matplotlib_sklearn
    assert others == {"scipy"}, "sections 1 to 8 need other packages than is said"
    assert [index for index, _ in CODE].index(FIGURES[0][0]) < 8


def test_every_cell_of_code_follows_text_or_what_it_needs():
    """Definitions may follow each other; what uses them follows them, or text."""
    for index, _ in CODE:
        before = NOTEBOOK.cells[index - 1]
        allowed = before.cell_type == "markdown" or "definitions" in cells.tags(before)
        assert allowed, f"cell {index} follows another one that runs, without a word"


def test_executed_once_from_a_fresh_kernel():
    assert [cell.execution_count for _, cell in CODE] == list(range(1, len(CODE) + 1))
    for index, output in OUTPUTS:
        assert output.output_type != "error", f"cell {index} failed"
        assert output.get("name") != "stderr", f"cell {index} wrote to stderr: {output.text}"
    for index, cell in CODE:
        if re.search(r"(?m)^print\(", cell.source):
            assert cell.outputs, f"cell {index} prints, but its output is missing"
        if "definitions" in cells.tags(cell):
            assert not cell.outputs, f"cell {index} only defines, but has an output"


def test_every_figure_is_there_and_a_sentence_follows():
    for index, cell in CODE:
        shown = sum(index == number for number, _ in FIGURES)
        wanted = 0 if "if MY_PICTURE" in cell.source else cell.source.count("plt.show()")
        assert shown >= wanted, f"cell {index} lacks a figure"
    for index, data in FIGURES:
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert 500 <= picture.width <= 1300, f"the figure of cell {index} is badly sized"
        assert np.asarray(picture.convert("L")).std() > 5, f"the figure of cell {index} is empty"
        after = NOTEBOOK.cells[index + 1]
        assert after.cell_type == "markdown", f"no text follows the figure of cell {index}"
        assert not after.source.startswith("#"), f"no text follows the figure of cell {index}"


def calls(node):
    """Return the calls that happen when `node` is executed, so none inside a lambda."""
    if isinstance(node, ast.Lambda):
        return []
    inside = [call for child in ast.iter_child_nodes(node) for call in calls(child)]
    return inside + [node] * isinstance(node, ast.Call)


def test_definitions_only_define():
    for index, cell in cells.code_cells("definitions"):
        for node in ast.parse(cell.source).body:
            imports = isinstance(node, ast.Import) and "imports" in cells.tags(cell)
            assert imports or isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign), index
            if isinstance(node, ast.Assign):
                assert not calls(node), f"cell {index} computes: {ast.unparse(node)}"


def test_every_function_is_defined_once_in_a_tagged_cell_documented_and_used():
    source = "\n".join(cell.source for _, cell in CODE)
    names = [node.name for _, node in definition_nodes()]
    assert len(names) == len(set(names))
    for cell, node in definition_nodes():
        assert "definitions" in cells.tags(cell), f"the cell of {node.name} is not tagged"
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        assert len(re.findall(rf"\b{node.name}\b", source)) > 1, f"{node.name} is never used"


def test_ignored_outputs_have_a_reason():
    known = {"imports", "parameters", "definitions", "nbval-ignore-output"}
    for index, cell in CODE:
        assert set(cells.tags(cell)) <= known, f"cell {index} has an unknown tag"
        ignored = "nbval-ignore-output" in cells.tags(cell)
        assert ignored == bool(cell.metadata.get("reason")), f"cell {index}: tag and reason differ"
        assert not re.search("(?i)# *nbval", cell.source), f"cell {index} hides a marker"


def test_recorded_values_belong_to_the_default_parameters():
    """The closing check must neither skip itself nor check another run than the default one."""
    _, check = CODE[-1]
    ((_, cell),) = cells.code_cells("parameters")
    defaults, space = {}, {}
    with cells.environment(MNIST_DATA=None):
        exec("import os\n" + cell.source, defaults)
    exec(check.source.partition("\nbest = ")[0], space)
    chosen = re.findall(r"(?m)^(\w+) = ", cell.source)
    checked = [name for name in chosen if name not in ("DATA", "THREADS")]
    assert space["RECORDED_WITH"] == {name: defaults[name] for name in checked}
    assert len(space["RECORDED"]) >= 6
    assert all(0 < tolerance < 0.01 for _, tolerance in space["RECORDED"].values())


def test_nothing_of_this_machine_and_no_shell():
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(NOTEBOOK))
    assert not {"widgets", "papermill"} & set(NOTEBOOK.metadata)
    for index, cell in CODE:
        assert not re.search(r"(?m)^\s*[!%]", cell.source), f"cell {index} holds a magic"
        assert set(cell.metadata) <= {"tags", "reason"}, f"cell {index} holds traces of a run"


def test_compared_text_is_stable():
    """Neither times nor addresses nor paths of data stand where nbval compares."""
    for index, output in OUTPUTS:
        text = json.dumps(output.get("text") or output.get("data"))
        if "nbval-ignore-output" not in cells.tags(NOTEBOOK.cells[index]):
            unstable = re.search(r"\d m?s\b|\bat 0x|<Axes|\.npz|WARNING", text)
            assert not unstable, f"cell {index}: {unstable[0]}"
