"""Load and run the cells of the notebook itself, so that nothing is ever written twice."""

import io
import linecache
import os
import shutil
import types
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import matplotlib
import nbformat

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "Digitclassification.ipynb"
OFFLINE = {  # no data set, no cache, and a network where nothing answers
    "MNIST_NPZ": "",
    "MNIST_REQUIRE_FULL": "",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}


def workplace(folder):
    """Make `folder` hold what the notebook needs beside it, so that it writes nothing here."""
    for name in ("examples", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(PATH, folder)
    return folder


def read():
    return nbformat.read(PATH, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(tag=None):
    """Return (index, cell) of the code cells, all or those with `tag`, in order."""
    cells = enumerate(read().cells)
    return [(i, c) for i, c in cells if c.cell_type == "code" and (not tag or tag in tags(c))]


def run_cell(index, cell, namespace):
    """Execute `cell` in `namespace` so that tracebacks show its lines."""
    name = f"{PATH.name}[cell {index}]"
    lines = cell.source.splitlines(keepends=True)
    linecache.cache[name] = (len(cell.source), None, lines, name)
    exec(compile(cell.source, name, "exec"), namespace)


def load_definitions():
    """Return a module made of the notebook's import cells and its `definitions` cells."""
    matplotlib.use("agg")
    module = types.ModuleType("digitclassification")
    with redirect_stdout(io.StringIO()):
        for index, cell in code_cells("imports") + code_cells("definitions"):
            run_cell(index, cell, vars(module))
    return module


def run(until=None):
    """Run the notebook's code cells in order, up to the cell that holds the text `until`.

    Returns their namespace and the figures that were shown. Output is dropped.
    """
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    namespace, figures = {"__name__": "__main__"}, []
    show = plt.show
    plt.show = lambda: figures.extend(map(plt.figure, plt.get_fignums()[len(figures) :]))
    try:
        with redirect_stdout(io.StringIO()):
            for index, cell in code_cells():
                if until and until in cell.source:
                    break
                run_cell(index, cell, namespace)
    finally:
        plt.show = show
    return namespace, figures


@contextmanager
def environment(**changes):
    """Set environment variables (None removes one) inside the `with` block."""
    saved = {name: os.environ.get(name) for name in changes}

    def assign(values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)

    assign(changes)
    try:
        yield
    finally:
        assign(saved)
