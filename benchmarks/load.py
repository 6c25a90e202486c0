"""Measure what the notebook needs: peak memory of training, throughput of `predict_digits`.

    .venv/bin/python benchmarks/load.py [--write]

Runs the notebook's own cells up to the reader of section 9 (training included, for one epoch: more
need no more memory), then lets it read 1, 1,000 and 100,000 images. Needs Linux, which tells the
peak memory of a process, and the full MNIST (see the README).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("load.json")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402

MIB = 2**20


def memory(name):
    """Return a size of this process in bytes: "VmRSS" is that of now, "VmHWM" its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"Linux tells no {name!r} here.")


def peak_growth(function):
    """Return by how many bytes the memory of this process grew at most while `function` ran."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory("VmRSS")
    function()
    return max(0, memory("VmHWM") - before)


def read_images(space, count, repeats):
    """Let `predict_digits` read `count` images; return seconds (median) and growth in bytes."""
    image = space["x_test"][:1]
    images = np.broadcast_to(image, (count, 28, 28, 1))  # itself takes no memory
    seconds = []

    def read():
        started = time.perf_counter()
        labels, _ = space["predict_digits"](images, space["reader"])
        seconds.append(time.perf_counter() - started)
        assert len(labels) == count

    growth = max(peak_growth(read) for _ in range(repeats))
    return statistics.median(seconds), growth


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"record the result in {RESULTS.name}")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    space, _ = cells.run(until="class DigitImageError", DATA=cells.DATA, EPOCHS=1)
    result = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "tensorflow": space["tf"].__version__,
        "training_peak_mib": round(memory("VmHWM") / MIB),
        "predict_digits": [],
    }
    print(f"peak memory of loading, training and evaluation: {result['training_peak_mib']} MiB")
    read_images(space, 1000, 1)  # traces the network for a whole batch
    for count, repeats in ((1, 50), (1000, 10), (100_000, 2)):
        read_images(space, count, 1)
        seconds, growth = read_images(space, count, repeats)
        row = {"images": count, "seconds": round(seconds, 5), "growth_mib": round(growth / MIB, 1)}
        result["predict_digits"].append(row)
        print(
            f"{count:7} images: {seconds:8.4f} s, {count / seconds:6.0f} a second, "
            f"memory grows by {row['growth_mib']} MiB"
        )
    if options.write:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
