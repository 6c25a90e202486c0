"""Train the default network under different conditions; record what stays the same.

    .venv/bin/python benchmarks/determinism.py

Each row is the notebook's own cells up to its evaluation, in a process of its own: twice as they
are, with one thread, and with oneDNN kept to older instruction sets (x86 only: elsewhere these rows
repeat the first). Needs the full MNIST (see the README).
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("determinism.json")
ROWS = {  # name: the notebook's parameters and the environment
    "as it is": ({}, {}),
    "once more": ({}, {}),
    "1 thread": ({"THREADS": 1}, {}),
    "AVX2": ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "SSE4.1": ({}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
}
METRICS = ("baseline_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402


def run_notebook(parameters):
    """Run the notebook's cells until the test set has been evaluated; return its record."""
    space, _ = cells.run("Confusion matrix", DATA=cells.DATA, **parameters)
    history = space["history"]
    best = history["val_loss"].index(min(history["val_loss"]))
    values = {**space, **{name: history[name][best] for name in ("val_loss", "val_accuracy")}}
    weights = hashlib.sha256(space["weights"]).hexdigest()  # as the notebook prints it
    return {"weights": weights, **{name: values[name] for name in METRICS}}


def main():
    runs = []
    for name, (_, changes) in ROWS.items():
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, capture_output=True, check=True, env=os.environ | changes)
        runs.append({"row": name, **json.loads(done.stdout.splitlines()[-1])})
        print(json.dumps(runs[-1]), flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    result = {"machine": machine, "tensorflow": version("tensorflow"), "runs": runs}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    print(json.dumps(run_notebook(ROWS[sys.argv[1]][0]))) if sys.argv[1:] else main()
