"""The network that is taken away is the one that the notebook has."""

import numpy as np
import onnxruntime


def test_onnx_file_holds_the_network_and_its_input_contract(notebook, tmp_path):
    notebook.keras.utils.set_random_seed(0)
    model = notebook.build_cnn()
    images = np.random.default_rng(0).random((50, 28, 28, 1), np.float32)
    expected = model.predict(images, verbose=0)
    notebook.export_onnx(model, tmp_path / "m.onnx", notebook.INPUT_CONTRACT)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for count in (1, 50):
        (given,) = session.run(None, {session.get_inputs()[0].name: images[:count]})
        np.testing.assert_allclose(given, expected[:count], atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == notebook.INPUT_CONTRACT
