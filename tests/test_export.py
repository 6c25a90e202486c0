"""The model that is taken away is the model that was trained, and no file is ever half written."""

import cells
import numpy as np
import onnxruntime
import pytest


def test_both_files_are_the_trained_model(notebook, sample_run, tmp_path):
    space, _ = sample_run
    images = space["x_test"][:50]
    expected = space["model"].predict(images, verbose=0)
    notebook.write_atomically(tmp_path / "m.keras", space["model"].save)
    again = notebook.keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    contract = {**notebook.INPUT_CONTRACT, "temperature": "1.1"}
    notebook.write_atomically(
        tmp_path / "m.onnx", lambda path: notebook.export_onnx(space["model"], path, contract)
    )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for count in (1, 50):
        (given,) = session.run(None, {session.get_inputs()[0].name: images[:count]})
        np.testing.assert_allclose(given, expected[:count], atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == contract
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "m.onnx"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(notebook, tmp_path):
    (tmp_path / "model").write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        notebook.write_atomically(tmp_path / "model", fail)
    assert (tmp_path / "model").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_models_are_not_committed():
    assert "models/" in (cells.ROOT / ".gitignore").read_text().splitlines()
