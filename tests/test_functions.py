"""The notebook's functions, loaded from its own cells, against values worked out by hand."""

import cells
import numpy as np
import pytest

RNG = np.random.default_rng(0)


# --- parameters from the environment -----------------------------------------------------------


@pytest.mark.parametrize(
    "text, default, expected",
    [("", 7, 7), (" ", 7, 7), ("3", 7, 3), ("3", 0.5, 3.0), ("0", True, False), ("1", False, True)],
)
def test_from_environment_converts(notebook, monkeypatch, text, default, expected):
    monkeypatch.setenv("MNIST_X", text)
    value = notebook.from_environment("X", default)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "text, default, minimum, message",
    [
        ("six", 7, 1, "MNIST_X='six' is not a value of type int; correct or unset it."),
        ("1.5", 7, 1, "MNIST_X='1.5' is not a value of type int; correct or unset it."),
        ("yes", True, None, "MNIST_X='yes' is not 0 or 1; correct or unset it."),
        ("0", 7, 1, "MNIST_X=0 is below its minimum, 1."),
        ("601", 7, 1, "MNIST_X=601 is above its maximum, 600."),
        ("nan", 0.5, 0.0, "MNIST_X=nan is below its minimum, 0.0."),
    ],
)
def test_from_environment_refuses(notebook, monkeypatch, text, default, minimum, message):
    monkeypatch.setenv("MNIST_X", text)
    with pytest.raises(ValueError) as caught:
        notebook.from_environment("X", default, minimum, 600)
    assert str(caught.value) == message


def test_from_environment_knows_its_choices(notebook, monkeypatch):
    monkeypatch.setenv("MNIST_X", "full")
    assert notebook.from_environment("X", "small", choices=("small", "full")) == "full"
    monkeypatch.setenv("MNIST_X", "big")
    with pytest.raises(ValueError, match=r"^MNIST_X='big' is none of: small, full\.$"):
        notebook.from_environment("X", "small", choices=("small", "full"))


# --- preprocessing -----------------------------------------------------------------------------


def test_preprocess_images_scales_and_adds_a_channel(notebook):
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 3, 5], images[1, 4, 6] = 255, 51
    result = notebook.preprocess_images(images)
    assert result.shape == (2, 28, 28, 1)
    assert result.dtype == np.float32
    assert result[1, 3, 5, 0] == 1
    assert result[1, 4, 6, 0] == np.float32(0.2)
    assert result.sum() == np.float32(1.2)


def test_preprocess_images_is_invertible(notebook):
    images = RNG.integers(0, 256, (5, 28, 28), np.uint8)
    back = np.rint(notebook.preprocess_images(images)[..., 0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(back, images)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 28, 28), np.float32),
        np.zeros((28, 28), np.uint8),
        np.zeros((2, 28, 28, 1), np.uint8),
        np.zeros((2, 32, 32), np.uint8),
    ],
)
def test_preprocess_images_refuses(notebook, images):
    with pytest.raises(ValueError, match=r"needs uint8 \(n, 28, 28\), not"):
        notebook.preprocess_images(images)


def test_one_hot(notebook):
    rows = notebook.one_hot(np.array([3, 0, 9], np.uint8))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.eye(10)[[3, 0, 9]])
    assert notebook.one_hot(np.array([], np.uint8)).shape == (0, 10)


@pytest.mark.parametrize("labels", [[10], [-1], [1.0], [[1]], ["1"]])
def test_one_hot_refuses(notebook, labels):
    with pytest.raises(ValueError, match="one_hot needs"):
        notebook.one_hot(labels)


# --- augmentation and the pipelines ------------------------------------------------------------


def blob(row, column):
    """Return one image (1, 28, 28, 1) with a soft spot centred on (row, column)."""
    y, x = np.mgrid[:28, :28]
    spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)
    return spot[None, ..., None].astype(np.float32)


def centers(images):
    """Return the centres of mass (row, column) of `images` (n, 28, 28, 1)."""
    images = np.asarray(images)[..., 0]
    mass = images.sum(axis=(1, 2))
    y, x = np.mgrid[:28, :28]
    return np.stack([(images * y).sum((1, 2)) / mass, (images * x).sum((1, 2)) / mass], axis=1)


NONE = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "keep": 0}


def test_random_affine_without_motion_is_the_identity(notebook):
    images = RNG.random((3, 28, 28, 1), np.float32)
    result = notebook.random_affine(images, [1, 2], **NONE)
    np.testing.assert_allclose(result, images, atol=1e-5)


def test_random_affine_is_set_by_its_seed_and_differs_between_images(notebook):
    images = np.repeat(blob(10, 16), 8, axis=0)
    first, again, other = (
        notebook.random_affine(images, s, keep=0).numpy() for s in ([1, 2],) * 2 + ([1, 3],)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first[1:] - first[0]).max(axis=(1, 2, 3)).min() > 0.01
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize(
    "motion, limit, expected",
    [  # furthest motion of a spot 8 pixels right of the centre: (rows, columns)
        ({"shift": 3}, 3, (3, 3)),
        ({"rotation": 0.4}, 0.4, (8 * np.sin(0.4), 8 - 8 * np.cos(0.4))),
        ({"scale": 0.2}, 0.2, (0, 8 / 0.8 - 8)),
    ],
)
def test_random_affine_keeps_its_limits_and_reaches_them(notebook, motion, limit, expected):
    images = np.repeat(blob(13.5, 21.5), 400, axis=0)
    moved = centers(notebook.random_affine(images, [3, 4], **{**NONE, **motion}))
    reach = np.abs(moved - [13.5, 21.5]).max(axis=0)
    np.testing.assert_allclose(reach, expected, atol=0.15)


def test_random_affine_shear_slants_about_the_center(notebook):
    images = np.repeat(np.concatenate([blob(5.5, 13.5), blob(13.5, 13.5)]), 400, axis=0)
    moved = centers(notebook.random_affine(images, [5, 6], **{**NONE, "shear": 0.25}))
    np.testing.assert_allclose(np.abs(moved[:400] - [5.5, 13.5]).max(axis=0), [0, 2], atol=0.15)
    np.testing.assert_allclose(moved[400:], np.full((400, 2), 13.5), atol=0.05)


def test_random_affine_keeps_the_share_it_should(notebook):
    images = np.repeat(blob(10, 16), 2000, axis=0)
    moved = np.abs(notebook.random_affine(images, [7, 8]) - images).max(axis=(1, 2, 3)) > 1e-3
    assert moved.mean() == pytest.approx(0.7, abs=0.03)


def numbered(count):
    """Return images that carry their number in one pixel, and their labels."""
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[:, 14, 14, 0] = np.arange(count)
    return images, np.eye(10, dtype=np.float32)[np.arange(count) % 10]


def epoch(dataset):
    batches = [(x.numpy(), y.numpy()) for x, y in dataset]
    numbers = np.concatenate([x[:, 14, 14, 0] for x, _ in batches]).astype(int)
    return batches, numbers, np.concatenate([y for _, y in batches]).argmax(axis=1)


def test_training_dataset_shuffles_whole_batches_and_keeps_labels(notebook):
    dataset = notebook.make_training_dataset(*numbered(103), 10, seed=1, augment=False)
    (batches, first, labels), (_, second, _) = epoch(dataset), epoch(dataset)
    assert [len(x) for x, _ in batches] == [10] * 10
    assert len(set(first)) == 100
    np.testing.assert_array_equal(labels, first % 10)
    assert first.tolist() != second.tolist() != sorted(second)
    assert set(first) | set(second) > set(first), "what one epoch drops, another one uses"


def test_training_dataset_depends_on_its_seed_alone(notebook):
    images, labels = RNG.random((60, 28, 28, 1), np.float32), numbered(60)[1]

    def two_epochs(seed):
        notebook.keras.utils.set_random_seed(seed)
        dataset = notebook.make_training_dataset(images, labels, 20, seed)
        return np.concatenate([x for _ in range(2) for x, _ in dataset.as_numpy_iterator()])

    first = two_epochs(1)
    np.testing.assert_array_equal(first, two_epochs(1))
    assert np.abs(first - two_epochs(2)).max() > 0.1
    assert np.abs(first[:60] - first[60:]).max() > 0.1


def test_training_dataset_distorts_only_if_asked(notebook):
    images = np.repeat(blob(10, 16), 20, axis=0)
    labels = numbered(20)[1]
    ((plain, _),) = notebook.make_training_dataset(images, labels, 20, 1, augment=False)
    ((distorted, _),) = notebook.make_training_dataset(images, labels, 20, 1, augment=True)
    np.testing.assert_array_equal(plain, images)
    assert np.abs(distorted - images).max() > 0.1


def test_training_dataset_smaller_than_a_batch(notebook):
    dataset = notebook.make_training_dataset(*numbered(7), 128, seed=1, augment=False)
    assert int(dataset.cardinality()) == 1
    assert sorted(epoch(dataset)[1]) == list(range(7))


def test_evaluation_dataset_keeps_order_and_pixels(notebook):
    images, labels = numbered(25)
    batches, numbers, answers = epoch(notebook.make_evaluation_dataset(images, labels, 10))
    assert [len(x) for x, _ in batches] == [10, 10, 5]
    assert numbers.tolist() == list(range(25))
    np.testing.assert_array_equal(answers, numbers % 10)


def test_autotuner_is_off(notebook):
    """It costs up to half of the training time: see the notebook's section 3."""
    images, labels = numbered(5)
    for dataset in (
        notebook.make_training_dataset(images, labels, 5, 1),
        notebook.make_evaluation_dataset(images, labels),
    ):
        assert dataset.options().autotune.enabled is False


# --- model and training ------------------------------------------------------------------------


def test_network_has_the_required_layers(notebook):
    model = notebook.build_cnn(0.3)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert isinstance(model, notebook.keras.Sequential)
    assert {"Conv2D", "MaxPooling2D", "Dropout", "Flatten", "Dense"} <= set(kinds)
    assert model.get_layer("dropout").rate == 0.3
    assert model.layers[-1].units == 10
    assert model.layers[-1].activation is notebook.keras.activations.softmax
    assert model.input_shape == (None, 28, 28, 1)
    result = model.predict(RNG.random((3, 28, 28, 1), np.float32), verbose=0)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


def train_on(space, x_train, y_train, x_val, y_val, **parameters):
    """Run the notebook's own compile and fit cells on other data; return their namespace."""
    space = {**space, **parameters}
    space["training_data"] = space["make_training_dataset"](
        x_train, y_train, space["BATCH_SIZE"], 1, augment=False
    )
    space["validation_data"] = space["make_evaluation_dataset"](x_val, y_val)
    space["keras"].utils.set_random_seed(1)
    space["model"] = space["build_cnn"](space["DROPOUT"])
    for text in ("compile_model(model,", "model.fit("):
        ((index, cell),) = [
            c
            for c in cells.code_cells()
            if f"\n{text}" in f"\n{c[1].source}" or f"= {text}" in c[1].source
        ]
        cells.run_cell(index, cell, space)
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


def test_compiled_as_described(sample_run):
    model = sample_run[0]["model"]
    assert model.loss == "categorical_crossentropy"
    assert type(model.optimizer).__name__ == "Adam"
    assert model.optimizer.beta_2 == 0.99


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


def test_weights_sha256_covers_every_bit(notebook):
    notebook.keras.utils.set_random_seed(1)
    model = notebook.build_cnn()
    before = notebook.weights_sha256(model)
    assert before == notebook.weights_sha256(model)
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] = np.nextafter(weights[0][0, 0, 0, 0], np.float32(9))
    model.set_weights(weights)
    assert notebook.weights_sha256(model) != before


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("images, titles, colors", [(2, 3, None), (2, 2, ["black"]), (0, 0, None)])
def test_plot_digits_needs_one_title_for_each_image(notebook, images, titles, colors):
    with pytest.raises(ValueError, match="one title and one color for each"):
        notebook.plot_digits(np.zeros((images, 28, 28)), [""] * titles, colors=colors)


def test_label_predictions(notebook):
    titles, colors = notebook.label_predictions([3, 5], [3, 6], [0.987, 0.42])
    assert titles == ["3: 99 %", "6: 42 %\ntrue: 5"]
    assert colors == [notebook.BLUE, notebook.ORANGE]
