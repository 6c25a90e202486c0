"""Train the default network under different conditions; see what stays the same.

    .venv/bin/python benchmarks/determinism.py [--write]

Each row is the notebook's own cells up to its evaluation, in a process of its own: twice as they
are, with one thread, and with oneDNN kept to older instruction sets (x86 only: elsewhere these rows
repeat the first). Needs the full MNIST (see the README); takes about ten minutes on two cores.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("determinism.json")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
ROWS = {  # name: what is set
    "as it is": {},
    "once more": {},
    "1 thread": {"MNIST_THREADS": "1"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
}
METRICS = ("baseline_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


def run_notebook():
    """Run the notebook's cells until the test set has been evaluated; return its record."""
    import cells

    with cells.environment(MNIST_REQUIRE_FULL=1):
        space, _ = cells.run(until="probabilities = model.predict")
    history = space["history"].history
    values = {**space, **{name: history[name][space["best_epoch"]] for name in METRICS[1:3]}}
    record = {name: values[name] for name in METRICS}
    return {"weights": space["weights_sha256"](space["model"]), **record}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"record the result in {RESULTS.name}")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_notebook()))
        return

    import tensorflow

    runs = []
    for name, changes in ROWS.items():
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **changes}
        command = [sys.executable, __file__, "--one"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            sys.exit(f"The run {name!r} failed.")
        runs.append({"row": name, **json.loads(done.stdout.splitlines()[-1])})
        metrics = ", ".join(f"{metric} {runs[-1][metric]:.4f}" for metric in METRICS)
        print(f"{name:9} weights {runs[-1]['weights'][:8]}, {metrics}", flush=True)
    if options.write:
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        result = {"machine": machine, "tensorflow": tensorflow.__version__, "runs": runs}
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
