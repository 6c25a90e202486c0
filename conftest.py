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
def data_source():
    """Return (source, whether it is the full set) as the notebook would find it."""
    *arrays, source = definitions().load_mnist()
    return source, len(arrays[0]) == 60000


def pytest_report_header(config):
    source, full = data_source()
    if full:
        return f"MNIST: the full set, from {source}; nbval compares the notebook's outputs"
    return (
        "MNIST: ONLY THE SMALL SAMPLE (no full set to be had); the notebook runs whole, "
        "but its outputs, recorded on the full set, are not compared"
    )


def pytest_collectstart(collector):
    if collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)  # TensorFlow's start-up log
        collector.compare_outputs = data_source()[1]


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
    """Namespace and figures of the whole notebook, run offline on the sample for 4 epochs."""
    home = tmp_path_factory.mktemp("keras")
    offline = cells.environment(**cells.OFFLINE, KERAS_HOME=home, MNIST_EPOCHS=4)
    with offline, contextlib.chdir(cells.workplace(tmp_path_factory.mktemp("project"))):
        return cells.run(until=os.environ.get("NOTEBOOK_UNTIL"))  # set by tests/mutants.py
