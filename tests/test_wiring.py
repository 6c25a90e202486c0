"""The cells that are run in order: do they use the right data, settings and weights?"""

from collections import Counter
from unittest import mock

import cells
import numpy as np
import pytest


def run_cells(space, *texts):
    """Run in `space` the one code cell that holds each of `texts`; return `space`."""
    for text in texts:
        cells.run_cell(*cells.find(text), space)
    return space


START, COMPILE, FIT = "intra_op_parallelism", "= compile_model(", "model.fit(\n"


def test_first_weights_follow_from_the_seed_of_the_settings(notebook):
    def first_weights(seed):
        space = run_cells({**vars(notebook), "SEED": seed, "THREADS": 2}, START, "model.summary()")
        return space["model"].get_weights()[0]

    first = first_weights(1)
    np.testing.assert_array_equal(first, first_weights(1))
    assert np.abs(first - first_weights(2)).max() > 0.1


def test_runs_are_deterministic_on_a_fixed_number_of_threads(notebook):
    config = mock.MagicMock()
    run_cells({**vars(notebook), "THREADS": 3, "tf": mock.MagicMock(config=config)}, START)
    config.experimental.enable_op_determinism.assert_called_once_with()
    config.threading.set_intra_op_parallelism_threads.assert_called_once_with(3)
    config.threading.set_inter_op_parallelism_threads.assert_called_once_with(3)


SETTINGS, (_, RECORDED) = cells.settings(), cells.recorded()


def closing_check(epochs=SETTINGS["EPOCHS"], **changes):
    """Run the closing check on the recorded values, but for `changes` among its globals."""
    space = {**SETTINGS, "np": np, "FULL_SET": True}
    space |= {name: value for name, (value, _) in RECORDED.items()} | changes
    names = ("loss", "val_loss", "val_accuracy")
    space["history"] = {name: [space.get(name)] * epochs for name in names}
    run_cells(space, "RECORDED_WITH = {")


def test_closing_check_finds_every_metric_that_is_off():
    closing_check()
    for name, (value, tolerance) in RECORDED.items():
        for off in (-1.01, 1.01):
            with pytest.raises(AssertionError, match=f"^{name} is .*, recorded "):
                closing_check(**{name: value + off * tolerance})


def test_closing_check_says_when_it_does_not_apply(capsys):
    closing_check(epochs=4, SEED=2, FULL_SET=False, test_accuracy=0.5)
    said = capsys.readouterr().out
    assert all(reason in said for reason in ("SEED, the data, training", "ended early"))


def test_sets_are_disjoint_stratified_whole_and_always_the_same(notebook):
    space, _ = cells.run("keras.Sequential(", DATA="sample")
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
    steps = 3600 // space["BATCH_SIZE"]
    assert len(space["training_data"]) == steps
    assert float(space["learning_rate"](4 * steps)) == pytest.approx(0, abs=1e-9)
    assert float(space["learning_rate"](4 * steps - 5)) > 0
    images = {image.tobytes() for image in space["x_train"]}
    shown = np.concatenate([x for x, _ in space["training_data"].as_numpy_iterator()])
    kept = [image.tobytes() in images for image in shown]
    assert np.mean(kept) == pytest.approx(0.3 * 0.8 * 0.8, abs=0.04)  # by each of three variations


def test_networks_are_judged_on_other_images(space):
    for network, part, found in (("baseline", "val", "baseline"), ("model", "test", "test")):
        given = space[network].predict(space[f"x_{part}"], batch_size=500, verbose=0)
        right = given.argmax(axis=1) == space[f"y_{part}"].argmax(axis=1)
        assert space[f"{found}_accuracy"] == pytest.approx(np.mean(right))


def test_every_cell_of_the_first_lesson_can_be_run_twice_and_training_goes_on():
    losses = []

    def note(space):
        if "model" in space and getattr(space["model"], "history", None):
            losses.append(space["model"].history.history["loss"])

    cells.run("NOT_SURE", twice=note, DATA="sample", EPOCHS=1)
    first, second = [loss for i, loss in enumerate(losses) if loss not in losses[:i]]
    assert second[-1] < 0.8 * first[-1]


def trained_by_heart(space):
    """Run the cell that compiles on labels by chance: val_loss soon rises for good."""
    x, y = space["x_train"][:600], np.random.default_rng(1).permutation(space["y_train"][:600])
    space = {**space, "EPOCHS": 40, "PATIENCE": 3, "LEARNING_RATE": 0.01}
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


def test_after_an_interruption_the_next_cells_use_what_was_learned(space, capsys):
    class Interrupting(space["keras"].callbacks.EarlyStopping):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 2 * 6:  # in the third epoch
                raise KeyboardInterrupt

    before = trained_by_heart(space)
    first = before["model"].get_weights()[0]
    with mock.patch.object(space["keras"].callbacks, "EarlyStopping", Interrupting):
        run_cells(before, FIT)
    after = run_cells(before, "history = model.history.history", "= model.evaluate(x_test")
    assert len(after["history"]["val_loss"]) == 2
    assert np.abs(after["model"].get_weights()[0] - first).max() > 0.001
    assert 0 <= after["test_accuracy"] < 0.5, "not that of the interrupted training"
    again = run_cells(before, FIT)
    assert again["model"].history.history["loss"][-1] < after["history"]["loss"][-1]
