"""The notebook's functions, loaded from its own cells, against values worked out by hand."""

import numpy as np
import pytest

RNG = np.random.default_rng(0)


# --- preprocessing -----------------------------------------------------------------------------


def test_preprocess_scales_adds_a_channel_and_makes_labels_one_hot(notebook):
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 3, 5], images[1, 4, 6] = 255, 51
    x, y = (part.numpy() for part in notebook.preprocess(images, np.array([3, 0], np.uint8)))
    assert (x.shape, x.dtype, y.dtype) == ((2, 28, 28, 1), np.float32, np.float32)
    assert (x[1, 3, 5, 0], x[1, 4, 6, 0]) == (1, np.float32(0.2))
    assert x.sum() == np.float32(1.2)
    np.testing.assert_array_equal(y, np.eye(10)[[3, 0]])


@pytest.mark.parametrize(
    "shape, dtype", [((2, 28, 28), np.float32), ((28, 28), np.uint8), ((2, 28, 28, 1), np.uint8)]
)
def test_preprocess_takes_nothing_else(notebook, shape, dtype):
    with pytest.raises(ValueError, match=r"^Images must be uint8 \(n, 28, 28\), not .*\.$"):
        notebook.preprocess_images(np.zeros(shape, dtype))


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
        notebook.random_affine(images, seed, keep=0).numpy() for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first[1:] - first[0]).max(axis=(1, 2, 3)).min() > 0.01


@pytest.mark.parametrize(
    "motion, expected",
    [  # furthest motion of a spot 8 pixels right of the centre: (rows, columns)
        ({"shift": 3}, (3, 3)),
        ({"rotation": 0.4}, (8 * np.sin(0.4), 8 - 8 * np.cos(0.4))),
        ({"scale": 0.2}, (0, 8 / 0.8 - 8)),
    ],
)
def test_random_affine_keeps_its_limits_and_reaches_them(notebook, motion, expected):
    images = np.repeat(blob(13.5, 21.5), 400, axis=0)
    moved = centers(notebook.random_affine(images, [3, 4], **{**NONE, **motion}))
    reach = np.abs(moved - [13.5, 21.5]).max(axis=0)
    np.testing.assert_allclose(reach, expected, atol=0.15)


def test_random_affine_shear_slants_about_the_center(notebook):
    images = np.repeat(np.concatenate([blob(5.5, 13.5), blob(13.5, 13.5)]), 400, axis=0)
    moved = centers(notebook.random_affine(images, [5, 6], **{**NONE, "shear": 0.25}))
    np.testing.assert_allclose(np.abs(moved[:400] - [5.5, 13.5]).max(axis=0), [0, 2], atol=0.15)
    np.testing.assert_allclose(moved[400:], np.full((400, 2), 13.5), atol=0.05)


def test_random_affine_leaves_the_share_alone_that_it_should(notebook):
    images = np.repeat(blob(10, 16), 2000, axis=0)
    moved = np.abs(notebook.random_affine(images, [7, 8]) - images).max(axis=(1, 2, 3)) > 1e-3
    assert moved.mean() == pytest.approx(0.7, abs=0.03)


def test_random_stroke_width_takes_the_maximum_or_minimum_of_four_pixels(notebook):
    images = np.zeros((60, 28, 28, 1), np.float32)
    images[:, 10:13, 10:13] = 1  # three by three
    widened = notebook.random_stroke_width(images, [1, 2], share=1).numpy()
    assert {int(x.sum()) for x in widened} == {16, 4}  # four by four, two by two
    few = notebook.random_stroke_width(np.repeat(images, 30, axis=0), [3, 4]).numpy()
    sums = few.sum(axis=(1, 2, 3)).astype(int)
    shares = [np.mean(sums == size) for size in (4, 9, 16)]
    np.testing.assert_allclose(shares, [0.1, 0.8, 0.1], atol=0.03)


def test_random_photometric_keeps_its_limits_and_reaches_them(notebook):
    images = np.zeros((2000, 4, 4, 1), np.float32)
    images[:, 1:3] = 1
    still = notebook.random_photometric(images, [1, 2], share=1, noise=0).numpy()
    low, high = still.min(axis=(1, 2, 3)), still.max(axis=(1, 2, 3))
    assert (high - low).min() == pytest.approx(0.4, abs=0.02)
    assert (high - low).max() == pytest.approx(1, abs=0.02)
    assert low.min() == pytest.approx(0, abs=0.02) and low.max() == pytest.approx(0.6, abs=0.05)
    half = np.full((2000, 4, 4, 1), 0.5, np.float32)
    grainy = notebook.random_photometric(half, [1, 2], share=1, contrast=1, noise=0.3).numpy()
    assert np.abs(grainy - 0.5).max() == pytest.approx(0.3, abs=0.01)
    assert np.abs(grainy.mean() - 0.5) < 0.01
    changed = notebook.random_photometric(images, [5, 6]).numpy() != images
    assert changed.any(axis=(1, 2, 3)).mean() == pytest.approx(0.2, abs=0.03)
    loud = notebook.random_photometric(images, [5, 6], share=1, noise=2).numpy()
    assert (loud.min(), loud.max()) == (0, 1)


@pytest.mark.parametrize("name", ["random_stroke_width", "random_photometric"])
def test_variations_are_set_by_their_seed(notebook, name):
    vary, images = getattr(notebook, name), RNG.random((8, 28, 28, 1), np.float32)
    first, again, other = (vary(images, seed, share=1).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def numbered(count):
    """Return images that carry their number in one pixel, and their labels, its last digit."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 14, 14] = np.arange(count)
    return images, np.arange(count) % 10


def epoch(dataset):
    """Return the sizes of one epoch's batches, its images' numbers and its labels."""
    batches = list(dataset.as_numpy_iterator())
    numbers = np.concatenate([np.rint(255 * x[:, 14, 14, 0]) for x, _ in batches]).astype(int)
    labels = np.concatenate([y for _, y in batches]).argmax(axis=1)
    return [len(x) for x, _ in batches], numbers, labels


def test_training_dataset_shuffles_whole_batches_and_keeps_labels(notebook):
    dataset = notebook.make_training_dataset(*numbered(103), 10, seed=1, augment="none")
    (sizes, first, labels), (_, second, _) = epoch(dataset), epoch(dataset)
    assert sizes == [10] * 10
    assert len(set(first)) == 100
    np.testing.assert_array_equal(labels, first % 10)
    assert first.tolist() != second.tolist() != sorted(second)
    assert set(first) | set(second) > set(first), "what one epoch drops, another one uses"


def test_training_dataset_depends_on_its_seed(notebook):
    images, labels = RNG.integers(0, 256, (60, 28, 28), np.uint8), np.arange(60) % 10

    def two_epochs(seed):
        dataset = notebook.make_training_dataset(images, labels, 20, seed)
        return np.concatenate([x for _ in range(2) for x, _ in dataset.as_numpy_iterator()])

    notebook.keras.utils.set_random_seed(1)
    first = two_epochs(1)
    np.testing.assert_array_equal(first, two_epochs(1))  # whatever was drawn in between
    assert np.abs(first - two_epochs(2)).max() > 0.1
    assert np.abs(first[:60] - first[60:]).max() > 0.1


def test_training_dataset_varies_as_asked(notebook):
    images = np.repeat(np.uint8(255 * blob(10, 16)[..., 0]), 20, axis=0)
    data = images, np.zeros(20, int), 20, 1
    batches = {}
    for augment in notebook.AUGMENTATIONS:
        ((batches[augment], _),) = notebook.make_training_dataset(*data, augment)
    np.testing.assert_array_equal(batches["none"], notebook.preprocess_images(images))
    assert np.abs(batches["geometric"] - batches["none"]).max() > 0.1
    ground = {augment: np.ptp(batch[:, :2, :2], axis=(1, 2)) for augment, batch in batches.items()}
    assert ground["geometric"].max() < 0.01 < ground["all"].max(), "noise comes only with all"


def test_training_dataset_knows_no_other_augmentation(notebook):
    with pytest.raises(ValueError, match=r"^augment is one of none, geometric, all, not True\.$"):
        notebook.make_training_dataset(*numbered(20), 10, 1, True)


def test_evaluation_dataset_keeps_order_and_pixels(notebook):
    images, labels = numbered(25)
    dataset = notebook.make_evaluation_dataset(images, labels, 10)
    sizes, numbers, answers = epoch(dataset)
    assert sizes == [10, 10, 5]
    assert numbers.tolist() == list(range(25))
    np.testing.assert_array_equal(answers, labels)
    x = np.concatenate([x for x, _ in dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(x, notebook.preprocess_images(images))


def test_autotuner_is_off(notebook):
    """It costs up to half of the training time: see the notebook's section 3."""
    for dataset in (
        notebook.make_training_dataset(*numbered(5), 5, 1),
        notebook.make_evaluation_dataset(*numbered(5)),
    ):
        assert dataset.options().autotune.enabled is False


# --- model -------------------------------------------------------------------------------------


def test_network_has_the_required_layers_in_order(notebook):
    model = notebook.build_cnn(0.3)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"]
    pooled = ["Conv2D", "MaxPooling2D", *block[1:]]
    assert kinds == [*pooled, *pooled, *block, *block, "Flatten", "Dropout", "Dense"]
    assert isinstance(model, notebook.keras.Sequential)
    assert model.layers[-2].rate == 0.3
    assert model.input_shape == (None, 28, 28, 1)
    result = model(RNG.random((3, 28, 28, 1), np.float32)).numpy()
    assert result.shape == (3, 10)
    assert result.min() >= 0
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


def test_compile_model(notebook):
    model = notebook.build_cnn()
    rate = notebook.compile_model(model, 100, 0.01)
    assert model.loss == "categorical_crossentropy"
    assert type(model.optimizer).__name__ == "Adam"
    assert model.optimizer.beta_2 == 0.99
    np.testing.assert_allclose([float(rate(step)) for step in (0, 25, 100)], [0.0004, 0.01, 0])


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
