"""Train the notebook's default network and the field's reference in turn; print and record both.

    .venv/bin/python benchmarks/compare_reference.py [--seeds 3] [--write]

The reference is the Keras documentation's "Simple MNIST convnet", written here from its
description: two 3x3 convolutions of 32 and 64 filters, each max-pooled, flatten, dropout 0.5,
dense 10; Adam, batches of 128, 15 epochs, the last 10 % of the training set for validation. The
notebook's side is the notebook's own cells up to its evaluation. Each run has a process of its
own, the two take turns, and both see the same machine, threads, determinism and data. Needs the
full MNIST (see the README).
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
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def run_notebook(seed):
    """Run the notebook's cells until the test set has been evaluated; return its record."""
    import cells

    with cells.environment(MNIST_SEED=seed, MNIST_REQUIRE_FULL=1):
        space, _ = cells.run(until="probabilities = model.predict")
    return {
        "fit_seconds": space["fit_seconds"],
        "epochs": len(space["history"].epoch),
        "parameters": space["model"].count_params(),
        "baseline_accuracy": space["baseline_accuracy"],
        "val_loss": space["history"].history["val_loss"][space["best_epoch"]],
        "val_accuracy": space["history"].history["val_accuracy"][space["best_epoch"]],
        "test_accuracy": space["test_accuracy"],
        "test_loss": space["test_loss"],
    }


def run_reference(seed):
    """Train and evaluate the reference; return its record."""
    import cells

    with cells.environment(MNIST_SEED=seed, MNIST_REQUIRE_FULL=1):
        space, _ = cells.run(until="baseline = keras.Sequential")
    keras, preprocess, one_hot = space["keras"], space["preprocess_images"], space["one_hot"]
    x_train, y_train = preprocess(space["x_train_full"]), one_hot(space["y_train_full"])
    x_test, y_test = preprocess(space["x_test_raw"]), one_hot(space["y_test_raw"])
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
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
