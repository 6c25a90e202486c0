"""Train the notebook's default network and the field's reference in turn; print and record both.

    .venv/bin/python benchmarks/compare_reference.py [--seeds 3] [--write]

The notebook's side is its own cells up to its evaluation. The reference is the Keras
documentation's "Simple MNIST convnet" as the notebook builds it in section 11, trained as the
documentation says: Adam, batches of 128, 15 epochs, the last 10 % of the training set for
validation. Each run has a process of its own, the two take turns, and both see the same machine,
threads, determinism and data. Needs the full MNIST (see the README).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")
ROWS = ("notebook", "reference")
FIT, EVALUATION = "early_stopping = keras", "test_data = make_evaluation_dataset"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402


def run_cell_with(text, namespace):
    """Run the notebook's one cell that holds `text` in `namespace`."""
    (found,) = [pair for pair in cells.code_cells() if text in pair[1].source]
    cells.run_cell(*found, namespace)


def run_notebook(seed):
    """Run the notebook's cells until the test set has been evaluated; return its record."""
    space, _ = cells.run(until=FIT, SEED=seed, DATA=cells.DATA)
    started = time.perf_counter()
    run_cell_with(FIT, space)
    fit_seconds = time.perf_counter() - started
    run_cell_with(EVALUATION, space)
    history = space["model"].history.history
    best = history["val_loss"].index(min(history["val_loss"]))
    return {
        "fit_seconds": fit_seconds,
        "epochs": len(history["loss"]),
        "parameters": space["model"].count_params(),
        "baseline_accuracy": space["baseline_accuracy"],
        "val_loss": history["val_loss"][best],
        "val_accuracy": history["val_accuracy"][best],
        "test_accuracy": space["test_accuracy"],
        "test_loss": space["test_loss"],
    }


def run_reference(seed):
    """Train and evaluate the reference; return its record."""
    space, _ = cells.run(until="baseline = keras.Sequential", SEED=seed, DATA=cells.DATA)
    run_cell_with("def build_keras_convnet", space)
    x_train, y_train = space["preprocess"](space["x_train_full"], space["y_train_full"])
    x_test, y_test = space["preprocess"](space["x_test"], space["y_test"])
    model = space["build_keras_convnet"]()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(x_train, y_train, batch_size=128, epochs=15, validation_split=0.1, verbose=0)
    fit_seconds = time.perf_counter() - started
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=500, verbose=0)
    return {
        "fit_seconds": fit_seconds,
        "epochs": 15,
        "parameters": model.count_params(),
        "test_accuracy": accuracy,
        "test_loss": loss,
    }


def run_one(row, seed):
    """Run one training in a fresh process and return its record."""
    command = [sys.executable, __file__, "--one", row, "--seed", str(seed)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit(f"The run of {row!r} with seed {seed} failed.")
    return {"row": row, "seed": seed, **json.loads(done.stdout.splitlines()[-1])}


def summarize(runs):
    """Return the summary of `runs`: means, spreads, and the median of the paired time ratios."""
    summary = {}
    for row in ROWS:
        mine = [run for run in runs if run["row"] == row]
        summary[row] = {
            "seeds": len(mine),
            "fit_seconds": statistics.median(r["fit_seconds"] for r in mine),
        }
        for metric in ("test_accuracy", "test_loss"):
            values = [run[metric] for run in mine]
            summary[row][metric] = statistics.mean(values)
            summary[row][f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    seconds = {(run["row"], run["seed"]): run["fit_seconds"] for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    ratios = [seconds["notebook", seed] / seconds["reference", seed] for seed in seeds]
    summary["time_ratio"] = statistics.median(ratios)
    return summary


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 1 on")
    parser.add_argument("--write", action="store_true", help=f"record the result in {RESULTS.name}")
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one == "notebook":
        print(json.dumps(run_notebook(options.seed)))
        return
    if options.one:
        print(json.dumps(run_reference(options.seed)))
        return

    import keras
    import tensorflow

    runs = []
    for seed in range(1, options.seeds + 1):
        for row in ROWS:
            run = run_one(row, seed)
            runs.append(run)
            print(
                f"{row:9} seed {seed}: fit {run['fit_seconds']:6.1f} s, "
                f"test accuracy {run['test_accuracy']:.4f}, loss {run['test_loss']:.4f}",
                flush=True,
            )
    versions = {"tensorflow": tensorflow.__version__, "keras": keras.__version__}
    versions["python"] = platform.python_version()
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    result = {"machine": machine, "versions": versions, "summary": summarize(runs), "runs": runs}
    print(json.dumps(result["summary"], indent=2))
    if options.write:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
