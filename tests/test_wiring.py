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


SEEDS, COMPILE, FIT = "set_random_seed(SEED)\ntf.config", "= compile_model(", "model.fit(\n"


# --- settings ----------------------------------------------------------------------------------


def test_first_weights_follow_from_the_seed_of_the_settings(notebook):
    def first_weights(seed):
        space = run_cells({**vars(notebook), "SEED": seed, "THREADS": 2}, SEEDS, "model.summary()")
        return space["model"].get_weights()[0]

    first = first_weights(1)
    np.testing.assert_array_equal(first, first_weights(1))
    assert np.abs(first - first_weights(2)).max() > 0.1


def test_runs_are_deterministic_on_a_fixed_number_of_threads(notebook):
    config = mock.MagicMock()
    space = {**vars(notebook), "SEED": 1, "THREADS": 3, "tf": mock.MagicMock(config=config)}
    run_cells(space, SEEDS)
    config.experimental.enable_op_determinism.assert_called_once_with()
    config.threading.set_intra_op_parallelism_threads.assert_called_once_with(3)
    config.threading.set_inter_op_parallelism_threads.assert_called_once_with(3)


# --- the check at the end ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def closing_check(notebook):
    """Run the closing check on the recorded values, but for `changes` among its globals."""
    last = "RECORDED_WITH = {"
    defaults = run_cells({"os": os, "np": np, "FULL_SET": True}, "\nEPOCHS = ")
    recorded = run_cells({**defaults, "FULL_SET": False, "history": mock.MagicMock()}, last)

    def check(epochs=defaults["EPOCHS"], **changes):
        metrics = {name: value for name, (value, _) in recorded["RECORDED"].items()} | changes
        history = {"loss": [1.0] * epochs, "val_loss": [1.0] * epochs, "val_accuracy": [0] * epochs}
        for name in ("val_loss", "val_accuracy"):
            history[name][-1] = metrics[name]
        run_cells({**defaults, **metrics, "history": history}, last)

    check.recorded = recorded["RECORDED"]
    return check


def test_closing_check_finds_every_metric_that_is_off(closing_check):
    closing_check()
    assert len(closing_check.recorded) >= 6
    for name, (value, tolerance) in closing_check.recorded.items():
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


def test_sets_are_disjoint_stratified_whole_and_always_the_same(notebook, space):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    for array, name in zip(notebook.load_mnist("sample"), names):
        np.testing.assert_array_equal(array, space[name])

    def digits(images, labels):
        return Counter(zip(map(np.ndarray.tobytes, images), labels))

    def split(part):
        pixels = np.rint(255 * space[f"x_{part}"][..., 0]).astype(np.uint8)
        return digits(pixels, space[f"y_{part}"].argmax(axis=1))

    assert split("train") + split("val") == digits(space["train_images"], space["train_labels"])
    assert split("test") == digits(space["test_images"], space["test_labels"])
    shares = np.bincount(space["train_labels"]) * space["VALIDATION_SIZE"]
    np.testing.assert_allclose(space["y_val"].sum(axis=0), shares, atol=1)
    space["keras"].utils.set_random_seed(99)  # the split has a seed of its own
    again = run_cells({**space}, "= train_test_split(")
    np.testing.assert_array_equal(again["x_val"], space["x_val"])


def test_training_used_all_that_was_asked_for(space):
    assert len(space["history"]["loss"]) == space["EPOCHS"] == 4
    assert len(space["training_data"]) == 3600 // space["BATCH_SIZE"]
    images = {image.tobytes() for image in space["x_train"]}
    shown = np.concatenate([x for x, _ in space["training_data"].as_numpy_iterator()])
    kept = [image.tobytes() in images for image in shown]
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


def test_baseline_is_judged_on_validation_data(space):
    given = space["baseline"].predict(space["x_val"], verbose=0)
    right = given.argmax(axis=1) == space["y_val"].argmax(axis=1)
    assert space["baseline_accuracy"] == pytest.approx(np.mean(right))


def test_evaluation_is_right_and_on_the_test_set(notebook, space):
    """Loss, accuracy and Wilson interval, computed once more from the probabilities."""
    true, n, z = space["test_labels"], 1000, 1.959964
    x_test = notebook.preprocess_images(space["test_images"])
    given = space["model"].predict(x_test, batch_size=500, verbose=0)
    p = np.mean(given.argmax(axis=1) == true)
    assert space["test_accuracy"] == pytest.approx(p)
    loss = -np.log(given[np.arange(n), true]).mean()
    assert space["test_loss"] == pytest.approx(loss, rel=1e-4)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (space["low"], space["high"]) == pytest.approx((middle - half, middle + half), abs=1e-6)


# --- cells that are run again, training that ends early ----------------------------------------


def test_every_cell_of_the_first_lesson_can_be_run_twice_and_training_goes_on():
    ends, losses = "import base64", []

    def note(space):
        if "model" in space and getattr(space["model"], "history", None):
            losses.append(space["model"].history.history["loss"])

    cells.run(ends, twice=note, DATA="sample", EPOCHS=2)
    first, second = [loss for i, loss in enumerate(losses) if loss not in losses[:i]]
    assert len(first) == len(second) == 2
    assert second[-1] < 0.8 * first[-1]


def trained_by_heart(space, **changes):
    """Run the cell that compiles on labels by chance: val_loss soon rises for good."""
    x, y = space["x_train"][:600], np.random.default_rng(1).permutation(space["y_train"][:600])
    space = {**space, "EPOCHS": 40, "PATIENCE": 3, "LEARNING_RATE": 0.01, **changes}
    space["keras"].utils.set_random_seed(1)
    space["training_data"] = space["make_training_data"](x[:300], y[:300], "none", 50)
    space["x_val"], space["y_val"] = x[300:], y[300:]
    space["model"] = space["build_cnn"](0.0)
    return run_cells(space, COMPILE)


def test_early_stopping_fires_when_overfitting_and_restores_the_best_epoch(space):
    result = run_cells(trained_by_heart(space), FIT)
    losses = result["model"].history.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 40
    restored = result["model"].evaluate(result["x_val"], result["y_val"], verbose=0)[0]
    assert restored == pytest.approx(losses[best], abs=1e-5)
    assert restored < losses[-1]


def test_after_an_interruption_the_next_cells_use_what_was_learned(space, capsys):
    class Interrupting(space["keras"].callbacks.EarlyStopping):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 2 * 6:  # in the third epoch
                raise KeyboardInterrupt

    before = trained_by_heart(space)
    first = before["model"].get_weights()[0]
    with mock.patch.object(space["keras"].callbacks, "EarlyStopping", Interrupting):
        run_cells(before, FIT)
    assert "Interrupted" in capsys.readouterr().out
    after = run_cells(before, "history = model.history.history", "= model.evaluate(x_test")
    assert len(after["history"]["val_loss"]) == 2
    assert np.abs(after["model"].get_weights()[0] - first).max() > 0.001
    assert 0 <= after["test_accuracy"] < 0.5, "not that of the interrupted training"
    again = run_cells(before, FIT)
    assert "goes on" in capsys.readouterr().out
    assert again["model"].history.history["loss"][-1] < after["history"]["loss"][-1]
