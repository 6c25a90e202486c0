"""The cells that are run in order: do they use the right data, settings and weights?"""

import os
from collections import Counter
from unittest import mock

import cells
import numpy as np
import pytest


def run_cells(space, *texts):
    """Run in `space` the one code cell that holds each of `texts`; return `space`."""
    for text in texts:
        (found,) = [(i, c) for i, c in cells.code_cells() if text in c.source]
        cells.run_cell(*found, space)
    return space


# --- settings ----------------------------------------------------------------------------------


def test_first_weights_follow_from_the_seed_of_the_parameters(notebook):
    def first_weights(seed):
        space = {**vars(notebook), "SEED": seed, "DROPOUT": 0.4, "THREADS": 2}
        run_cells(space, "set_random_seed(SEED)\ntf.config", "model = build_cnn(DROPOUT)")
        return space["model"].get_layer("conv_1").get_weights()[0]

    first = first_weights(1)
    np.testing.assert_array_equal(first, first_weights(1))
    assert np.abs(first - first_weights(2)).max() > 0.1


def test_runs_are_deterministic_on_a_fixed_number_of_threads(notebook):
    config = mock.MagicMock()
    space = {**vars(notebook), "SEED": 1, "THREADS": 3, "tf": mock.MagicMock(config=config)}
    run_cells(space, "set_random_seed(SEED)\ntf.config")
    config.experimental.enable_op_determinism.assert_called_once_with()
    config.threading.set_intra_op_parallelism_threads.assert_called_once_with(3)
    config.threading.set_inter_op_parallelism_threads.assert_called_once_with(3)


# --- the check at the end ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def closing_check():
    """Run the closing check on the recorded values, but for `changes` among its globals."""
    last = "RECORDED_WITH = {"
    space = run_cells({"os": os, "np": np, "FULL_SET": True}, "EPOCHS = 8")
    run_cells({**space, "history": dict.fromkeys(("loss", "val_loss", "val_accuracy"), [0])}, last)

    def check(epochs=8, **changes):
        metrics = {name: value for name, (value, _) in recorded.items()} | changes
        history = {"loss": [1.0] * epochs, "val_loss": [1.0] * epochs, "val_accuracy": [0] * epochs}
        for name in ("val_loss", "val_accuracy"):
            history[name][-1] = metrics[name]
        run_cells({**space, **metrics, "history": history}, last)

    unchecked = {**space, "FULL_SET": False, "history": mock.MagicMock()}
    recorded = run_cells(unchecked, last)["RECORDED"]
    check.recorded = recorded
    return check


METRICS = ["baseline_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
           "ece_after"]  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_closing_check_finds_every_metric_that_is_off(closing_check, name):
    value, tolerance = closing_check.recorded[name]
    closing_check()
    for off in (-1.01, 1.01):
        with pytest.raises(AssertionError, match=f"^{name} is .*, recorded "):
            closing_check(**{name: value + off * tolerance})


def test_closing_check_says_when_it_does_not_apply(closing_check, capsys):
    closing_check(epochs=4, SEED=2, FULL_SET=False, test_accuracy=0.5)
    assert capsys.readouterr().out == (
        "Not checked; this differs from the recorded run: SEED, the data, "
        "training, which ended early\n"
    )


# --- a whole run on the sample -----------------------------------------------------------------


@pytest.fixture
def space(sample_run):
    return sample_run[0]


def test_data_are_those_that_were_loaded(notebook, space):
    loaded = notebook.load_mnist("sample")
    for array, name in zip(loaded, ("x_train_full", "y_train_full", "x_test", "y_test")):
        np.testing.assert_array_equal(array, space[name])


def test_sets_are_disjoint_stratified_whole_and_always_the_same(space):
    def digits(part):
        return Counter(zip(map(np.ndarray.tobytes, space[f"x_{part}"]), space[f"y_{part}"]))

    assert digits("train") + digits("val") == digits("train_full")
    assert np.bincount(space["y_val"]).tolist() == [40] * 10
    space["keras"].utils.set_random_seed(99)  # the split has a seed of its own
    again = run_cells({**space}, "y_val = train_test_split(")
    np.testing.assert_array_equal(again["x_val"], space["x_val"])


def test_validation_and_test_data_are_not_distorted(space):
    for part in ("val", "test"):
        data = space["validation_data" if part == "val" else "test_data"]
        x, y = (np.concatenate(parts) for parts in zip(*data.as_numpy_iterator()))
        np.testing.assert_array_equal(np.rint(255 * x[..., 0]), space[f"x_{part}"])
        np.testing.assert_array_equal(y.argmax(axis=1), space[f"y_{part}"])


def test_training_used_all_that_was_asked_for(space):
    assert len(space["history"]["loss"]) == space["EPOCHS"] == 4
    images = {image.tobytes() for image in space["x_train"]}
    shown = [np.rint(255 * x[..., 0]) for x, _ in space["training_data"].as_numpy_iterator()]
    kept = [image.astype(np.uint8).tobytes() in images for image in np.concatenate(shown)]
    share = 0.3 * 0.8 * 0.8  # kept by each of the three variations
    assert np.mean(kept) == pytest.approx(share, abs=0.04)


def test_learning_rate_rises_then_falls_to_zero(space):
    steps = space["EPOCHS"] * (3600 // space["BATCH_SIZE"])
    rates = np.array([float(space["learning_rate"](step)) for step in range(steps + 1)])
    peak = int(rates.argmax())
    assert peak == pytest.approx(steps / 4, abs=1)
    assert rates[[0, peak]] == pytest.approx([space["LEARNING_RATE"] / 25, space["LEARNING_RATE"]])
    assert np.all(np.diff(rates[: peak + 1]) > 0) and np.all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_baseline_is_judged_on_validation_data(notebook, space):
    given = space["baseline"].predict(notebook.preprocess_images(space["x_val"]), verbose=0)
    accuracy = np.mean(given.argmax(axis=1) == space["y_val"])
    assert space["baseline_accuracy"] == pytest.approx(accuracy)


def test_evaluation_is_right_and_on_the_test_set(notebook, space):
    """Loss, accuracy and Wilson interval, computed once more from the probabilities."""
    true, n, z = space["y_test"], 1000, 1.959964
    given = space["model"].predict(notebook.preprocess_images(space["x_test"]), verbose=0)
    p = np.mean(given.argmax(axis=1) == true)
    assert space["test_accuracy"] == pytest.approx(p)
    loss = -np.log(given[np.arange(n), true]).mean()
    assert space["test_loss"] == pytest.approx(loss, rel=1e-4)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (space["low"], space["high"]) == pytest.approx((middle - half, middle + half), abs=1e-6)


# --- training that ends early ------------------------------------------------------------------


def trained_by_heart(space, **changes):
    """Run the cells that compile and fit on labels by chance: val_loss soon rises for good."""
    x, y = space["x_train"][:600], np.random.default_rng(1).permutation(space["y_train"][:600])
    space = {**space, "EPOCHS": 40, "PATIENCE": 3, "LEARNING_RATE": 0.01, **changes}
    space["training_data"] = space["make_training_dataset"](x[:300], y[:300], 50, 1, "none")
    space["validation_data"] = space["make_evaluation_dataset"](x[300:], y[300:])
    space["keras"].utils.set_random_seed(1)
    space["model"] = space["build_cnn"](0.0)
    run_cells(space, "learning_rate = compile_model(model,")
    return space


FIT = "early_stopping = keras.callbacks.EarlyStopping("


def test_early_stopping_fires_when_overfitting_and_restores_the_best_epoch(space):
    result = run_cells(trained_by_heart(space), FIT)
    losses = result["model"].history.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 40
    restored = result["model"].evaluate(result["validation_data"], verbose=0)[0]
    assert restored == pytest.approx(losses[best], abs=1e-5)
    assert restored < losses[-1]


def test_after_an_interruption_the_next_cells_use_what_was_learned(space):
    class Interrupting(space["keras"].callbacks.EarlyStopping):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 2 * 6:  # in the third epoch
                raise KeyboardInterrupt

    before = trained_by_heart(space)
    first = before["model"].get_weights()[0]
    patched = mock.patch.object(space["keras"].callbacks, "EarlyStopping", Interrupting)
    with patched, pytest.raises(KeyboardInterrupt):
        run_cells(before, FIT)
    after = run_cells(before, "history = model.history.history", "= model.evaluate(test_data")
    assert len(after["history"]["val_loss"]) == 2
    assert np.abs(after["model"].get_weights()[0] - first).max() > 0.01
    assert 0 <= after["test_accuracy"] < 0.5, "not that of the interrupted training"
