"""Training that is interrupted or killed loses nothing and ends with the same bits."""

import json
import os
import signal
import threading
import time

import cells
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
HASH = 'print("hash", weights_sha256(model), *history.epoch)'
LOSSES = 'print("losses", model.evaluate(validation_data)[0], min(history.history["val_loss"]))'


def notebook_with(*more):
    """Return the notebook up to the end of section 7, and after it cells of these sources."""
    notebook = cells.read()
    end = next(i for i, cell in enumerate(notebook.cells) if "## 8." in cell.source)
    notebook.cells = notebook.cells[:end] + [nbformat.v4.new_code_cell(text) for text in more]
    return notebook


def epochs_in(backup):
    """Return how many epochs the file `backup` holds."""
    if not backup.exists():
        return 0
    with np.load(backup) as file:
        return len(json.loads(str(file["about"]))["history"]["loss"])


def execute(folder, notebook, send=None):
    """Execute `notebook` in `folder` on the sample; after two epochs, `send` the kernel a signal.

    Returns what the code cells printed, and the error that ended the execution.
    """
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    failure = []

    def work():
        try:
            client.execute()
        except Exception as error:
            failure.append(error)

    with cells.environment(**cells.OFFLINE, KERAS_HOME=folder, MNIST_EPOCHS=8):
        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 300
        while send and epochs_in(folder / "models" / "training-backup.npz") < 2:
            assert thread.is_alive() and time.monotonic() < deadline, failure
            time.sleep(0.02)
        if send:
            os.kill(client.km.provisioner.pid, send)
        thread.join()
    texts = [
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    return "".join(texts), failure[0] if failure else None


def line(text, name):
    """Return the words after `name` of the one printed line that starts with it."""
    (found,) = [line.split()[1:] for line in text.splitlines() if line.startswith(f"{name} ")]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    text, error = execute(tmp_path_factory.mktemp("undisturbed"), notebook_with(HASH))
    assert error is None
    assert "Going on" not in text
    return line(text, "hash")


def test_killed_training_goes_on_to_the_same_bits(undisturbed, tmp_path):
    backup = tmp_path / "models" / "training-backup.npz"
    _, error = execute(tmp_path, notebook_with(HASH), signal.SIGKILL)
    assert isinstance(error, DeadKernelError)
    done = epochs_in(backup)
    assert 2 <= done < len(undisturbed) - 1
    text, error = execute(tmp_path, notebook_with(HASH))
    assert error is None
    assert f"Going on after epoch {done}." in text
    assert line(text, "hash") == undisturbed
    assert not backup.exists()


def test_interrupted_training_keeps_its_best_weights_and_can_go_on(undisturbed, tmp_path):
    (fit,) = [cell.source for _, cell in cells.code_cells() if "model.fit(\n" in cell.source]
    again = fit + "\n" + HASH
    text, error = execute(tmp_path, notebook_with(LOSSES, again), signal.SIGINT)
    assert error is None, "a cell after the interrupted one failed"
    assert "Interrupted: the best weights so far are kept" in text
    assert "test accuracy" in text
    kept, best = map(float, line(text, "losses"))
    assert kept == pytest.approx(best, abs=1e-5)
    assert line(text, "hash") == undisturbed


def test_a_backup_of_other_settings_is_left_alone(notebook, tmp_path):
    keras = notebook.keras
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    stopping = keras.callbacks.EarlyStopping(restore_best_weights=True)
    stopping.on_train_begin()
    stopping.best_weights, stopping.best = model.get_weights(), 0.5
    path, history = tmp_path / "backup.npz", {"loss": [0.5]}
    before = [variable.numpy() for variable in model.variables]
    notebook.save_training(path, model, stopping, history, {"seed": 1})
    model.set_weights([weight + 1 for weight in before])
    assert notebook.load_training(path, model, {"seed": 2}) == ({}, {})
    assert notebook.load_training(tmp_path / "none.npz", model, {"seed": 1}) == ({}, {})
    np.testing.assert_array_equal(model.variables[0], before[0] + 1)
    loaded, memory = notebook.load_training(path, model, {"seed": 1})
    assert loaded == history
    assert memory["best"] == 0.5
    np.testing.assert_array_equal(memory["best_weights"][0], before[0])
    np.testing.assert_array_equal(model.variables[0], before[0])


def test_a_finished_training_leaves_no_backup(notebook, tmp_path):
    keras = notebook.keras
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    data = notebook.tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1))))
    stopping = keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True)
    history = notebook.Backup(tmp_path / "backup.npz", stopping, {})
    files = []

    def look(epoch, logs):
        files.append([path.name for path in tmp_path.iterdir()])

    callbacks = [stopping, history, keras.callbacks.LambdaCallback(on_epoch_end=look)]
    assert history.resume(model, data) == 0
    model.fit(data, epochs=2, validation_data=data, callbacks=callbacks, verbose=0)
    assert files == [["backup.npz"]] * 2
    assert history.epoch == [0, 1]
    assert len(history.history["val_loss"]) == 2
    assert not list(tmp_path.iterdir())
