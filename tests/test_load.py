"""What the notebook needs of a machine: memory that stays flat, figures that were measured."""

import json
import sys

import cells
import numpy as np
import pytest

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import load  # noqa: E402

RECORD = json.loads(load.RESULTS.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak memory of a process")
def test_memory_of_predict_digits_is_flat(notebook):
    model = notebook.build_cnn()
    outputs = [model.get_layer("flatten").output, model.outputs[0]]
    reference = np.eye(96)[np.arange(5000) % 96]
    reader = notebook.Reader(notebook.keras.Model(model.inputs, outputs), reference=reference)
    space = {"predict_digits": notebook.predict_digits, "reader": reader}
    space["x_test"] = np.zeros((1, 28, 28, 1), np.float32)
    load.read_images(space, 1000, 1)
    few, many = (load.read_images(space, count, 1)[1] for count in (1000, 50_000))
    result = 50_000 * 2 * 11 * 8  # labels and probabilities, in parts and joined
    assert many < few + result + 48 * load.MIB
    assert many < 50_000 * 784 * 4 / 2, "the images were all in memory at once"


def test_record_of_load():
    assert RECORD["training_peak_mib"] < 2.5 * 1024
    rows = {row["images"]: row for row in RECORD["predict_digits"]}
    assert list(rows) == [1, 1000, 100_000]
    readme = " ".join((cells.ROOT / "README.md").read_text().split())
    assert f"{RECORD['training_peak_mib'] / 1024:.1f} GiB of memory" in readme
    rate = 100_000 / rows[100_000]["seconds"]
    assert f"{1000 * rows[1]['seconds']:.0f} ms for one image" in readme
    assert f"{round(rate, -3):,.0f} a second" in readme
    assert rows[100_000]["growth_mib"] < 1
    assert "grows by less than 1 MiB, even for 100,000" in readme
