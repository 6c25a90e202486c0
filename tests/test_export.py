"""The model that is taken away is the model that was trained."""

import numpy as np
import onnxruntime


def test_both_files_are_the_trained_model(notebook, sample_run, tmp_path):
    model = sample_run[0]["model"]
    images = sample_run[0]["x_test"][:50]
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "m.keras")
    again = notebook.keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    contract = {**notebook.INPUT_CONTRACT, "temperature": "1.1"}
    notebook.export_onnx(model, tmp_path / "m.onnx", contract)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for count in (1, 50):
        (given,) = session.run(None, {session.get_inputs()[0].name: images[:count]})
        np.testing.assert_allclose(given, expected[:count], atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == contract
