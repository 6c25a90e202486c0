"""The notebook's functions, loaded from its own cells, against values worked out by hand."""

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


def test_training_dataset_depends_on_its_seed(notebook):
    images, labels = RNG.random((60, 28, 28, 1), np.float32), numbered(60)[1]

    def two_epochs(seed):
        dataset = notebook.make_training_dataset(images, labels, 20, seed)
        return np.concatenate([x for _ in range(2) for x, _ in dataset.as_numpy_iterator()])

    notebook.keras.utils.set_random_seed(1)
    first = two_epochs(1)
    np.testing.assert_array_equal(first, two_epochs(1))  # whatever was drawn in between
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


def test_conv_block_pools_before_it_normalizes(notebook):
    kinds = [type(layer).__name__ for layer in notebook.conv_block(2, 8, 3, pool=True)]
    assert kinds == ["Conv2D", "MaxPooling2D", "BatchNormalization", "ReLU"]
    layers = notebook.conv_block(3, 8, 5, pool=False)
    assert [layer.name for layer in layers] == ["conv_3", "norm_3", "relu_3"]
    assert (layers[0].filters, layers[0].kernel_size, layers[0].use_bias) == (8, (5, 5), False)


def test_live_table_shows_all_epochs(notebook, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "display", lambda text, display_id: shown.append(text.data))
    monkeypatch.setattr(notebook, "update_display", notebook.display)
    history = notebook.keras.callbacks.History()
    table = notebook.LiveTable(history)
    table.on_train_begin()
    history.epoch = [0, 1]
    history.history = {"loss": [1, 0.5], "accuracy": [0.8, 0.9]}
    history.history |= {"val_loss": [0.25, 0.125], "val_accuracy": [0.97, 0.98]}
    table.on_epoch_end(1)
    assert shown[0] == "Preparing the first batch ..."
    head, rule, *rows = shown[1].strip().splitlines()
    assert head == "epoch | loss | accuracy | val_loss | val_accuracy"
    assert rows == [
        "1 | 1.0000 | 0.8000 | 0.2500 | 0.9700",
        "2 | 0.5000 | 0.9000 | 0.1250 | 0.9800",
    ]
    table.set_params({"steps": 30})
    table.shown -= 2
    table.on_train_batch_end(6)
    table.on_train_batch_end(7)
    assert shown[2].endswith("Epoch 3: 7 of 30 batches")
    assert len(shown) == 3, "more than one update a second"


def test_compile_model(notebook):
    model = notebook.build_cnn()
    rate = notebook.compile_model(model, 100, 0.01)
    assert model.loss == "categorical_crossentropy"
    assert type(model.optimizer).__name__ == "Adam"
    assert model.optimizer.beta_2 == 0.99
    np.testing.assert_allclose([float(rate(step)) for step in (0, 25, 100)], [0.0004, 0.01, 0])


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


def test_plot_digits_gives_each_image_its_title(notebook):
    images = np.arange(7 * 784, dtype=float).reshape(7, 28, 28)
    fig = notebook.plot_digits(images, list("abcdefg"), columns=3, colors=["red"] * 7)
    shown = [ax for ax in fig.axes if ax.images]
    assert "".join(ax.get_title() for ax in shown) == "abcdefg"
    for ax, image in zip(shown, images):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)


def test_plot_confusion_has_true_digits_in_rows(notebook):
    matrix = np.diag(np.arange(10, 20))
    matrix[3, 5] = 7
    axis = notebook.plot_confusion(matrix).axes[0]
    texts = {tuple(map(round, text.get_position())): text.get_text() for text in axis.texts}
    assert texts[5, 3] == "7"  # x, y
    assert texts[4, 4] == "14"
    assert len(texts) == 11
    assert np.asarray(axis.images[0].get_array()).nonzero() == (3, 5)


def test_label_predictions(notebook):
    titles, colors = notebook.label_predictions([3, 5], [3, 6], [0.987, 0.42])
    assert titles == ["3: 99 %", "6: 42 %\ntrue: 5"]
    assert colors == [notebook.BLUE, notebook.ORANGE]
