"""The notebook as a document: complete, in order, short, executed once from a fresh kernel."""

import base64
import html
import io
import json
import re

import cells
import nbformat
import numpy as np
from nbconvert import HTMLExporter
from PIL import Image

LINES = {  # section: how many lines of code it may have
    "1. Imports": 32,
    "2. Data loading": 55,
    "3. Data preprocessing": 58,
    "4. Model definition": 57,
    "5. Model compilation": 15,
    "6. Model training": 40,
    "7. Model evaluation": 16,
    "8. Visualization": 38,
    "9. Your own handwriting": 230,
    "10. Taking the model away": 28,
    "11. Extensions": 141,
    "12. Where it breaks": 49,
    "Conclusion": 23,
}
LIMITS = {
    "lines of code": 782,
    "lines before the first trained network": 145,
    "lines before the first test accuracy": 257,
    "lines in the longest cell": 28,
    "cells": 96,
    "words outside of code": 4300,
    "bytes of the file": 1_200_000,
}

NOTEBOOK = cells.read()
CODE = cells.code_cells()
TEXT = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
OUTPUTS = [(index, output) for index, cell in CODE for output in cell.outputs]
FIGURES = [(i, o.data["image/png"]) for i, o in OUTPUTS if "image/png" in o.get("data", {})]


def lines_of(cell):
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def test_sections_are_in_order_and_links_lead_to_headings():
    assert len(re.findall("(?m)^# ", TEXT)) == 1
    assert re.findall("(?m)^## (.+)$", TEXT) == list(LINES)
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert {title.replace(" ", "-") for title in LINES} <= links, "the contents lack a section"
    text = [cell for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]
    body, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=text))
    assert links <= set(map(html.unescape, re.findall(r'id="([^"]+)"', body)))


def test_length_is_within_the_limits():
    lengths, section, before = dict.fromkeys(LINES, 0), "", {}
    for cell in NOTEBOOK.cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"(?m)^## (.+)$", cell.source) or [section])[-1]
        else:
            for step in (".fit(", ".evaluate(x_test"):
                if step in cell.source:
                    before.setdefault(step, sum(lengths.values()))
            lengths[section] += lines_of(cell)
    found = {
        "lines of code": sum(lengths.values()),
        "lines before the first trained network": before[".fit("],
        "lines before the first test accuracy": before[".evaluate(x_test"],
        "lines in the longest cell": max(lines_of(cell) for _, cell in CODE),
        "cells": len(NOTEBOOK.cells),
        "words outside of code": len(re.sub(r"(?s)```.*?```", "", TEXT).split()),
        "bytes of the file": cells.PATH.stat().st_size,
    }
    limits, found = LINES | LIMITS, lengths | found
    assert {name: n for name, n in found.items() if n > limits[name]} == {}


def test_executed_once_from_a_fresh_kernel():
    """nbval never compares a cell without a count, or an output that is not there."""
    assert [cell.execution_count for _, cell in CODE] == list(range(1, len(CODE) + 1))
    for index, output in OUTPUTS:
        assert output.output_type != "error", f"cell {index} failed"
        assert output.get("name") != "stderr", f"cell {index} wrote to stderr: {output.text}"
    for index, cell in CODE:
        if re.search(r"(?m)^print\(", cell.source):
            assert cell.outputs, f"cell {index} prints, but its output is missing"


def test_every_figure_is_there():
    for index, cell in CODE:
        shown = sum(index == number for number, _ in FIGURES)
        wanted = len(re.findall(r"(?m)^plt\.show\(\)", cell.source))
        assert shown >= wanted, f"cell {index} lacks a figure"
    for index, data in FIGURES:
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert 500 <= picture.width <= 1300, f"the figure of cell {index} is badly sized"
        assert np.asarray(picture.convert("L")).std() > 5, f"the figure of cell {index} is empty"


def test_ignored_outputs_have_a_reason():
    known = {"imports", "parameters", "definitions", "nbval-ignore-output"}
    for index, cell in CODE:
        assert set(cells.tags(cell)) <= known, f"cell {index} has an unknown tag"
        ignored = "nbval-ignore-output" in cells.tags(cell)
        assert ignored == bool(cell.metadata.get("reason")), f"cell {index}: tag and reason differ"
        assert not re.search("(?i)# *nbval", cell.source), f"cell {index} hides a marker"


def test_recorded_values_belong_to_the_default_parameters():
    """The closing check must neither skip itself nor check another run than the default one."""
    recorded_with, recorded = cells.recorded()
    kept = {name: n for name, n in cells.settings().items() if name not in ("DATA", "THREADS")}
    message = "a default was changed: put it into RECORDED_WITH and the new metrics into RECORDED"
    assert recorded_with == kept, message
    assert len(recorded) >= 6
    assert all(0 < tolerance < 0.01 for _, tolerance in recorded.values())


def test_nothing_of_this_machine_and_no_shell():
    text = json.dumps(NOTEBOOK)
    assert not re.search(r'/(home|root|tmp|work|Users)/|"(widgets|papermill)": ', text)
    for index, cell in CODE:
        assert not re.search(r"(?m)^\s*[!%]", cell.source), f"cell {index} holds a magic"
