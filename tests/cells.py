"""Load and run the cells of the notebook itself, so that nothing is ever written twice."""

import io
import linecache
import os
import types
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import matplotlib
import nbformat

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "Digitclassification.ipynb"
DATA = os.environ.get("MNIST_DATA", "auto")
DATA = "full" if DATA == "auto" else DATA  # where the benchmarks, which need all of it, get MNIST


def read():
    return nbformat.read(PATH, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(tag=None):
    """Return (index, cell) of the code cells, all or those with `tag`, in order."""
    cells = enumerate(read().cells)
    return [(i, c) for i, c in cells if c.cell_type == "code" and (not tag or tag in tags(c))]


def find(text):
    """Return (index, cell) of the one code cell that holds `text`."""
    (found,) = [(i, c) for i, c in code_cells() if text in c.source]
    return found


def settings():
    """Return the names in the settings cell and their values."""
    ((index, cell),) = code_cells("parameters")
    run_cell(index, cell, namespace := {"os": os})
    return {name: value for name, value in namespace.items() if name.isupper()}


def recorded():
    """Return the closing check's RECORDED_WITH and RECORDED."""
    _, cell = find("RECORDED_WITH = {")
    exec(cell.source.partition("\nbest = ")[0], namespace := {})
    return namespace["RECORDED_WITH"], namespace["RECORDED"]


def run_cell(index, cell, namespace):
    """Execute `cell` in `namespace` so that tracebacks show its lines."""
    name = f"{PATH.name}[cell {index}]"
    lines = cell.source.splitlines(keepends=True)
    linecache.cache[name] = (len(cell.source), None, lines, name)
    exec(compile(cell.source, name, "exec"), namespace)


def load_definitions():
    """Return a module made of the notebook's imports, settings and `definitions` cells."""
    matplotlib.use("agg")
    module = types.ModuleType("digitclassification")
    with redirect_stdout(io.StringIO()):
        for index, cell in code_cells():
            if {"imports", "parameters", "definitions"} & set(tags(cell)):
                run_cell(index, cell, vars(module))
    return module


def with_parameters(notebook, **parameters):
    """Return `notebook` with a cell that sets `parameters`, where papermill would put it."""
    (index,) = [i for i, cell in enumerate(notebook.cells) if "parameters" in tags(cell)]
    source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(source))
    return notebook


def nobody():
    """Stand in for `get_ipython` where no person is at the other end."""
    parent = {"content": {"allow_stdin": False}}
    return types.SimpleNamespace(kernel=types.SimpleNamespace(get_parent=lambda channel: parent))


def run(until=None, twice=None, output=None, **parameters):
    """Run the notebook's code cells in order, up to the cell that holds the text `until`.

    `parameters` replace what a cell has given these names. Returns the cells' namespace and the
    figures that were shown. What is printed goes to the file `output`. With a function `twice`,
    each cell is run two times, and the function gets the namespace after each.
    """
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    namespace, figures = {"__name__": "__main__", "get_ipython": nobody, "display": print}, []

    def keep():
        figures.extend(map(plt.figure, plt.get_fignums()))
        plt.close("all")

    with redirect_stdout(output or io.StringIO()), mock.patch.object(plt, "show", keep):
        for index, cell in code_cells():
            if until and until in cell.source:
                break
            for _ in range(2 if twice else 1):
                run_cell(index, cell, namespace)
                namespace |= {name: parameters[name] for name in parameters if name in namespace}
                if twice:
                    twice(namespace)
    return namespace, figures
