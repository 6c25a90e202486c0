"""The functions of sections 2 to 5, from the notebook's own cells, against values by hand."""

import numpy as np
import pytest


def test_preprocess_scales_and_adds_a_channel(notebook):
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 3, 5], images[1, 4, 6] = 255, 51
    x = notebook.preprocess_images(images)
    assert (x.shape, x.dtype) == ((2, 28, 28, 1), np.float32)
    assert (x[1, 3, 5, 0], x[1, 4, 6, 0]) == (1, np.float32(0.2))
    assert x.sum() == np.float32(1.2)


def test_plot_digits_gives_each_image_its_title_and_color(notebook):
    images = np.arange(7 * 784, dtype=float).reshape(7, 28, 28)
    fig = notebook.plot_digits(images, list("abcdefg"), "all", 3, ["red", "blue"] * 3 + ["red"])
    shown = [axis for axis in fig.axes if axis.images]
    assert "".join(axis.get_title() for axis in shown) == "abcdefg"
    assert [axis.title.get_color() for axis in shown] == ["red", "blue"] * 3 + ["red"]
    for axis, image in zip(shown, images):
        np.testing.assert_array_equal(axis.images[0].get_array(), image)


def blob(row, column):
    """Return one image (1, 28, 28, 1) with a soft spot centred on (row, column)."""
    y, x = np.mgrid[:28, :28]
    spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)
    return spot[None, ..., None].astype(np.float32)


def test_motion_is_small_to_all_sides_and_another_for_each_image(notebook):
    notebook.keras.utils.set_random_seed(1)
    moved = np.asarray(notebook.make_motion()(np.repeat(blob(13.5, 20), 400, axis=0)))
    centers = [notebook.ndimage.center_of_mass(image) for image in moved[..., 0]]
    away = np.array(centers) - [13.5, 20]
    assert len(np.unique(away.round(3), axis=0)) > 390
    assert np.all(np.abs(away.mean(axis=0)) < 0.3)
    reach = np.abs(away).max(axis=0)  # 2 by shifting, 6.5 * 0.19 by turning, 2 by slanting
    assert np.all((reach > 2) & (reach < 5.5))
    assert moved.min() > -1e-5 and moved.max() < 1.001
    assert np.abs(moved[:, :4, :4]).max() < 1e-3, "the background is no longer empty"


def test_strokes_take_the_maximum_or_minimum_of_four_pixels(notebook):
    images = np.zeros((400, 28, 28, 1), np.float32)
    images[:, 10:13, 10:13] = 1  # three by three
    sums = np.asarray(notebook.vary_strokes(images)).sum(axis=(1, 2, 3)).astype(int)
    assert set(sums) == {16, 4}  # four by four, two by two
    assert np.mean(sums == 16) == pytest.approx(0.5, abs=0.1)


def test_light_keeps_its_limits_and_reaches_them(notebook):
    images = np.zeros((3000, 28, 28, 1), np.float32)
    images[:, :14] = 1
    light = np.asarray(notebook.vary_light(images))[..., 0]
    assert (light.min(), light.max()) == (0, 1)
    ink, paper = light[:, :14].mean(axis=(1, 2)), light[:, 14:].mean(axis=(1, 2))
    assert np.all(ink > paper)
    assert (ink - paper).min() == pytest.approx(0.35, abs=0.1)  # less than 0.4 where noise is cut
    assert paper.max() > 0.5 and ink.min() < 0.5
    grain = light[:, 14:].std(axis=(1, 2))
    assert grain.min() < 0.02 and grain.max() > 0.2


def test_sometimes_changes_the_share_that_it_should(notebook):
    numbers = np.arange(1, 3001)
    result = np.asarray(notebook.sometimes(lambda chosen: -chosen, numbers, 0.3))
    assert np.mean(result < 0) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(np.abs(result), numbers)


def numbered(count):
    """Return images that carry their number in one pixel, and their labels, its last digit."""
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[:, 14, 14, 0] = np.arange(count)
    return images, np.eye(10, dtype=np.float32)[np.arange(count) % 10]


def epoch(dataset):
    """Return the sizes of one epoch's batches, its images' numbers and its labels."""
    batches = list(dataset.as_numpy_iterator())
    numbers = np.concatenate([x[:, 14, 14, 0] for x, _ in batches]).astype(int)
    labels = np.concatenate([y for _, y in batches]).argmax(axis=1)
    return [len(x) for x, _ in batches], numbers, labels


def test_training_data_are_shuffled_in_whole_batches_and_keep_their_labels(notebook):
    dataset = notebook.make_training_data(*numbered(103), augment="none", batch_size=10)
    (sizes, first, labels), (_, second, _) = epoch(dataset), epoch(dataset)
    assert sizes == [10] * 10 and len(dataset) == 10
    assert len(set(first)) == 100
    np.testing.assert_array_equal(labels, first % 10)
    assert first.tolist() != second.tolist() != sorted(second)
    assert set(first) | set(second) > set(first), "what one epoch drops, another one uses"
    assert epoch(notebook.make_training_data(*numbered(7), "none", 10))[0] == [7]
    assert not dataset.options().autotune.enabled  # it costs a third of the training time


def test_training_data_vary_as_asked(notebook):
    x = np.repeat(blob(10, 16), 2000, axis=0)
    y = np.eye(10, dtype=np.float32)[np.zeros(2000, int)]
    varied = {}
    for augment, share in (("none", 0), ("geometric", 0.7), ("all", 1 - 0.3 * 0.8 * 0.8)):
        ((images, _),) = notebook.make_training_data(x, y, augment, 2000)
        varied[augment] = np.asarray(images)
        changed = np.abs(varied[augment] - x).max(axis=(1, 2, 3)) > 1e-3
        assert changed.mean() == pytest.approx(share, abs=0.04), augment
    corner = {name: np.ptp(images[:, :2, :2], axis=(1, 2)) for name, images in varied.items()}
    assert corner["geometric"].max() < 0.01 < corner["all"].max(), "noise comes only with all"


def test_network_has_the_required_layers_in_order(notebook):
    model = notebook.build_cnn(0.3)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"]
    pooled = ["Conv2D", "MaxPooling2D", *block[1:]]
    assert kinds == [*pooled, *pooled, *block, *block, "Flatten", "Dropout", "Dense"]
    assert isinstance(model, notebook.keras.Sequential)
    assert model.layers[-2].rate == 0.3
    assert model.input_shape == (None, 28, 28, 1)
    result = model(np.random.default_rng(0).random((3, 28, 28, 1), np.float32)).numpy()
    assert result.shape == (3, 10) and result.min() >= 0
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


def test_compile_model(notebook):
    model = notebook.build_cnn()
    rate = notebook.compile_model(model, 100, 0.01)
    assert model.loss == "categorical_crossentropy"
    assert type(model.optimizer).__name__ == "AdamW"
    np.testing.assert_allclose([float(rate(step)) for step in (0, 25, 100)], [0.0004, 0.01, 0])


def test_settings_are_what_functions_take_unless_told_otherwise(notebook):
    assert notebook.build_cnn().layers[-2].rate == notebook.DROPOUT
    x, y = numbered(300)
    assert epoch(notebook.make_training_data(x, y))[0] == [notebook.BATCH_SIZE] * 2
    rate = notebook.compile_model(notebook.build_cnn(), 100)
    assert float(rate(25)) == pytest.approx(notebook.LEARNING_RATE)
