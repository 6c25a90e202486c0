"""The cells that are run in order: do they use the right data, settings and weights?"""

from unittest import mock

import cells
import numpy as np
import pytest


def cell_with(text):
    """Return (index, cell) of the one code cell that holds `text`."""
    (found,) = [(i, c) for i, c in cells.code_cells() if text in c.source]
    return found


def run_cells(space, *texts):
    for text in texts:
        cells.run_cell(*cell_with(text), space)
    return space


# --- settings ----------------------------------------------------------------------------------


def test_first_weights_follow_from_the_seed_of_the_parameters(notebook):
    def first_weights(seed):
        space = {**vars(notebook), "SEED": seed, "DROPOUT": 0.4, "THREADS": 2}
        # threads can only be set before TensorFlow starts
        seeding = mock.patch.object(notebook.tf.config, "threading")
        with seeding, mock.patch("builtins.print"):
            run_cells(space, "set_random_seed(SEED)\ntf.config", "model = build_cnn(DROPOUT)")
        return space["weights_sha256"](space["model"])

    assert first_weights(1) == first_weights(1) != first_weights(2)


def test_runs_are_deterministic_on_a_fixed_number_of_threads(notebook):
    config = mock.MagicMock()
    space = {**vars(notebook), "SEED": 1, "THREADS": 3, "tf": mock.MagicMock(config=config)}
    run_cells(space, "set_random_seed(SEED)\ntf.config")
    config.experimental.enable_op_determinism.assert_called_once_with()
    config.threading.set_intra_op_parallelism_threads.assert_called_once_with(3)
    config.threading.set_inter_op_parallelism_threads.assert_called_once_with(3)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    "name",
    ["baseline_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
     "calibration_error"],
)  # fmt: skip
def test_closing_check_finds_every_metric_that_is_off(name, full):
    index, cell = cell_with("RECORDED_WITH = {")
    space = {"FULL_SET": full, "best_epoch": 0, "interrupted": False}
    cells.run_cell(index, cell, space)
    space |= space["RECORDED_WITH"]

    def check(off):
        metrics = {
            key: value + (off * 1.01 * tolerance if key == name else 0)
            for key, (value, tolerance) in space["RECORDED"][
                "full set" if full else "sample"
            ].items()
        }
        history = {key: [metrics[key]] for key in ("val_loss", "val_accuracy")}
        metrics["ece_after"] = metrics["calibration_error"]
        run_cells({**space, **metrics, "history": mock.Mock(history=history)}, "measured = {")

    check(0)
    for off in (-1, 1):
        with pytest.raises(AssertionError, match=f"^{name} is .*, recorded "):
            check(off)


def test_closing_check_says_when_it_does_not_apply(capsys):
    space = {"FULL_SET": True, "best_epoch": 0, "interrupted": True, "history": mock.MagicMock()}
    space |= dict.fromkeys(("baseline_accuracy", "test_loss", "test_accuracy", "ece_after"), 0)
    run_cells(space, "RECORDED_WITH = {")
    run_cells({**space, **space["RECORDED_WITH"], "EPOCHS": 3}, "measured = {")
    assert capsys.readouterr().out == (
        "Not checked; this differs from the recorded run: EPOCHS, training (interrupted)\n"
    )


# --- a whole run on the sample -----------------------------------------------------------------


def test_data_are_those_that_were_loaded(notebook, sample_run):
    space, _ = sample_run
    loaded = notebook.load_sample()
    for name, used in (("x_train", "x_train_full"), ("y_train", "y_train_full"),
                       ("x_test", "x_test_raw"), ("y_test", "y_test_raw")):  # fmt: skip
        np.testing.assert_array_equal(loaded[name], space[used])


def test_split_is_always_the_same(notebook, sample_run):
    space, _ = sample_run
    again = notebook.train_test_split(
        np.arange(4000), test_size=0.1, stratify=space["y_train_full"], random_state=0
    )
    np.testing.assert_array_equal(space["train_index"], again[0])
    np.testing.assert_array_equal(space["val_index"], again[1])


def test_training_used_all_that_was_asked_for(sample_run):
    space, _ = sample_run
    assert space["history"].epoch == list(range(space["EPOCHS"])) == [0, 1, 2, 3]
    assert space["early_stopping"].patience == space["PATIENCE"]
    images = {image.tobytes() for image in space["x_train"]}
    shown = [image for batch, _ in space["training_data"].as_numpy_iterator() for image in batch]
    kept = np.mean([image.tobytes() in images for image in shown])
    assert kept == pytest.approx(0.3, abs=0.05), "augmentation leaves three in ten as they are"


def test_best_epoch_is_that_of_the_validation_loss_and_its_weights_are_used(sample_run):
    space, _ = sample_run
    losses = space["history"].history["val_loss"]
    assert losses[space["best_epoch"]] == min(losses)
    data = space["make_evaluation_dataset"](space["x_val"], space["y_val"])
    loss, accuracy = space["model"].evaluate(data, verbose=0)
    assert loss == pytest.approx(min(losses), abs=1e-5)
    assert accuracy == pytest.approx(
        space["history"].history["val_accuracy"][space["best_epoch"]], abs=1e-6
    )


def test_baseline_is_judged_on_validation_data(sample_run):
    space, _ = sample_run
    given = space["baseline"].predict(space["x_val"], verbose=0).argmax(axis=1)
    accuracy = np.mean(given == space["y_val"].argmax(axis=1))
    assert space["baseline_accuracy"] == pytest.approx(accuracy)


def train_on(space, x_train, y_train, x_val, y_val, **parameters):
    """Run the notebook's own compile and fit cells on other data; return their namespace."""
    space = {**space, **parameters, "x_train": x_train, "y_train": y_train, "AUGMENT": False}
    space["training_data"] = space["make_training_dataset"](
        x_train, y_train, space["BATCH_SIZE"], 1, augment=False
    )
    space["validation_data"] = space["make_evaluation_dataset"](x_val, y_val)
    space["keras"].utils.set_random_seed(1)
    space["model"] = space["build_cnn"](space["DROPOUT"])
    run_cells(space, "learning_rate = compile_model(model,", "    model.fit(\n")
    return space


def test_early_stopping_fires_when_overfitting_and_restores_the_best_epoch(sample_run):
    """Random labels can only be learned by heart: the validation loss soon rises."""
    space, _ = sample_run
    x, y = space["x_train"][:600], np.random.default_rng(1).permutation(space["y_train"][:600])
    result = train_on(
        space, x[:300], y[:300], x[300:], y[300:],
        EPOCHS=40, PATIENCE=3, BATCH_SIZE=50, LEARNING_RATE=0.01, DROPOUT=0.0,
    )  # fmt: skip
    losses = result["history"].history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) < 40
    assert len(losses) == best + 1 + 3
    restored = result["model"].evaluate(result["validation_data"], verbose=0)[0]
    assert restored == pytest.approx(losses[best], abs=1e-5)
    assert restored < losses[-1]


def test_interruption_within_an_epoch_leaves_the_best_weights(sample_run, tmp_path, monkeypatch):
    """Random labels again: by the ninth epoch the best one is long past."""
    space, _ = sample_run
    monkeypatch.chdir(tmp_path)

    class Interrupting(space["LiveTable"]):
        def on_train_batch_end(self, batch, logs=None):
            if len(self.history.epoch) == 8:
                raise KeyboardInterrupt

    x, y = space["x_train"][:600], np.random.default_rng(1).permutation(space["y_train"][:600])
    result = train_on(
        {**space, "LiveTable": Interrupting}, x[:300], y[:300], x[300:], y[300:],
        EPOCHS=40, PATIENCE=40, BATCH_SIZE=50, LEARNING_RATE=0.01, DROPOUT=0.0,
    )  # fmt: skip
    losses = result["history"].history["val_loss"]
    assert result["interrupted"]
    assert len(losses) == 8
    assert losses[-1] > min(losses) + 0.01, "the last epoch must not be the best one"
    kept = result["model"].evaluate(result["validation_data"], verbose=0)[0]
    assert kept == pytest.approx(min(losses), abs=1e-5)
    assert [path.name for path in tmp_path.glob("models/*")] == ["training-backup.npz"]


def test_learning_rate_rises_then_falls_to_zero(sample_run):
    space, _ = sample_run
    rate, steps = space["learning_rate"], space["EPOCHS"] * space["steps_per_epoch"]
    rates = np.array([float(rate(step)) for step in range(steps + 1)])
    peak = int(rates.argmax())
    assert rates[0] == pytest.approx(space["LEARNING_RATE"] / 25)
    assert rates[peak] == pytest.approx(space["LEARNING_RATE"])
    assert peak == pytest.approx(steps / 4, abs=1)
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_sets_are_disjoint_stratified_and_whole(sample_run):
    space, _ = sample_run
    train, val = set(space["train_index"].tolist()), set(space["val_index"].tolist())
    assert not train & val
    assert train | val == set(range(4000))
    assert space["y_val"].sum(axis=0).tolist() == [40] * 10
    for part, index in (("train", "train_index"), ("val", "val_index")):
        images = space["x_train_full"][space[index]]
        np.testing.assert_array_equal(np.rint(space[f"x_{part}"][..., 0] * 255).astype(int), images)
        np.testing.assert_array_equal(
            space[f"y_{part}"].argmax(axis=1), space["y_train_full"][space[index]]
        )


def test_validation_and_test_data_are_not_distorted(sample_run):
    space, _ = sample_run
    for data, images, labels in (
        ("validation_data", "x_val", "y_val"),
        ("test_data", "x_test", "y_test"),
    ):
        x, y = (np.concatenate(parts) for parts in zip(*space[data].as_numpy_iterator()))
        np.testing.assert_array_equal(x, space[images])
        np.testing.assert_array_equal(y, space[labels])


def test_evaluation_is_right_and_on_the_test_set(sample_run):
    """Loss, accuracy and Wilson interval, computed once more from the probabilities."""
    space, _ = sample_run
    true = space["y_test_raw"]
    given = space["model"].predict(space["preprocess_images"](space["x_test_raw"]), verbose=0)
    assert space["test_accuracy"] == pytest.approx((given.argmax(axis=1) == true).mean())
    loss = -np.log(given[np.arange(len(true)), true]).mean()
    assert space["test_loss"] == pytest.approx(loss, rel=1e-4)
    n, p, z = len(true), space["test_accuracy"], 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert space["interval"].low == pytest.approx(middle - half, abs=1e-6)
    assert space["interval"].high == pytest.approx(middle + half, abs=1e-6)
