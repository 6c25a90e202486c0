"""What the notebook needs of a machine: memory that stays flat, figures that were measured."""

import json
import sys

import cells
import numpy as np
import pytest

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import load  # noqa: E402


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak memory of a process")
def test_memory_of_predict_digits_is_flat(notebook):
    model = notebook.build_cnn()
    outputs = [model.get_layer("features").output, model.outputs[0]]
    neighbors = notebook.NearestNeighbors(n_neighbors=5, metric="cosine")
    neighbors.fit(np.random.default_rng(0).random((5000, 96)))
    reader = notebook.Reader(notebook.keras.Model(model.inputs, outputs), neighbors)
    space = {**vars(notebook), "reader": reader, "x_test": np.zeros((1, 28, 28, 1), np.float32)}
    load.read_images(space, 1000, 1)
    few, many = (load.read_images(space, count, 1)[1] for count in (1000, 50_000))
    result = 50_000 * 2 * 11 * 8  # labels and probabilities, in parts and joined
    assert many < few + result + 48 * load.MIB
    assert many < 50_000 * 784 * 4 / 2, "the images were all in memory at once"


def test_record_of_load_is_whole():
    record = json.loads(load.RESULTS.read_text())
    assert 500 < record["training_peak_mib"] < 2.5 * 1024
    assert [row["images"] for row in record["predict_digits"]] == [1, 1000, 100_000]
    rates = [row["images"] / row["seconds"] for row in record["predict_digits"]]
    assert rates[0] < min(rates[1:]), "many are read no faster than one alone"
    assert all(row["growth_mib"] < 48 for row in record["predict_digits"])
