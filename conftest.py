"""Tell nbval what to compare: everything on the full MNIST, nothing on the small sample.

On the sample the notebook still runs whole, and its own checks and those in tests/ still count.
"""

import contextlib
import functools
import os

import cells
import pytest


@functools.cache
def definitions():
    return cells.load_definitions()


@functools.cache
def full_set():
    """Tell whether the notebook would find the full MNIST."""
    data = os.environ.get("MNIST_DATA", "auto")
    return data != "sample" and len(definitions().load_mnist(data)[0]) == 60000


def pytest_report_header(config):
    if full_set():
        return "MNIST: the full set; nbval compares the notebook's outputs"
    return (
        "MNIST: ONLY THE SMALL SAMPLE; the notebook runs whole, but its outputs, recorded on the "
        "full set, are not compared"
    )


def pytest_collectstart(collector):
    if collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)  # TensorFlow's start-up log
        collector.compare_outputs = full_set()


@pytest.fixture(scope="session")
def notebook():
    """The notebook's functions, with the notebook's settings for reproducible runs."""
    module = definitions()
    module.tf.config.experimental.enable_op_determinism()
    module.tf.config.threading.set_intra_op_parallelism_threads(2)
    module.tf.config.threading.set_inter_op_parallelism_threads(2)
    return module


@pytest.fixture(scope="session")
def sample_run(notebook, tmp_path_factory):
    """Namespace and figures of the whole notebook, run on the sample for 4 epochs."""
    with contextlib.chdir(cells.workplace(tmp_path_factory.mktemp("project"))):
        until = os.environ.get("NOTEBOOK_UNTIL")  # set by tests/mutants.py
        return cells.run(until, DATA="sample", EPOCHS=4)
