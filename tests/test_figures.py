"""Every figure shows what its labels say: pictures are looked up in the data by their pixels."""

import numpy as np
import pytest


@pytest.fixture
def space(sample_run):
    return sample_run[0]


@pytest.fixture
def figure(sample_run):
    """Return a function that finds the one figure whose title or an axis's title is `title`."""

    def find(title):
        matching = [
            fig
            for fig in sample_run[1]
            if title in {fig.get_suptitle(), *(ax.get_title() for ax in fig.axes)}
        ]
        assert len(matching) == 1, f"{len(matching)} figures are titled {title!r}"
        return matching[0]

    return find


def pictures(fig):
    """Return (title, title colour, picture) of the axes of `fig` that hold an image."""
    return [
        (ax.get_title(), ax.title.get_color(), np.squeeze(np.asarray(ax.images[0].get_array())))
        for ax in fig.axes
        if ax.images
    ]


def look_up(picture, images):
    """Return the index of `picture` in uint8 `images`; it must be there exactly once."""
    scale = 1 if picture.dtype == np.uint8 else 255
    pixels = np.rint(picture * scale).astype(np.uint8)
    (index,) = np.flatnonzero((images == pixels).all(axis=(1, 2)))
    return index


def test_samples_stand_under_their_labels(space, figure):
    shown = pictures(figure("The first 24 training digits"))
    assert len(shown) == 24
    for title, _, picture in shown:
        assert title == str(space["y_train_full"][look_up(picture, space["x_train_full"])])


def test_class_balance_is_counted(space, figure):
    (axis,) = figure("Class balance of the training set").axes
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == [int((space["y_train_full"] == digit).sum()) for digit in range(10)]
    assert axis.lines[0].get_ydata()[0] == np.mean(heights)


def test_augmented_digits_are_variations_of_the_original(space, figure):
    shown = pictures(figure("Three training digits, five variations of each"))
    assert [title == "original" for title, _, _ in shown] == [i % 6 == 0 for i in range(18)]
    for row in range(3):
        original = shown[6 * row][2]
        look_up(original, space["x_train_full"])
        for _, _, picture in shown[6 * row + 1 : 6 * row + 6]:
            assert 0.3 < np.corrcoef(original.ravel(), picture.ravel())[0, 1] < 0.999


def test_learning_curves_are_the_history(space, figure):
    history, best = space["history"].history, space["best_epoch"]
    fig = figure("Learning rate")
    for axis, metric in zip(fig.axes, ("loss", "accuracy")):
        lines = {line.get_label(): line for line in axis.lines}
        np.testing.assert_allclose(lines["training"].get_ydata(), history[metric])
        np.testing.assert_allclose(lines["validation"].get_ydata(), history[f"val_{metric}"])
        assert lines["restored"].get_xdata() == best + 1
        assert lines["restored"].get_ydata() == history[f"val_{metric}"][best]
    rates = fig.axes[2].lines[0].get_ydata()
    assert max(rates) == pytest.approx(space["LEARNING_RATE"], rel=0.05)


def test_restored_epoch_is_marked_where_it_is(notebook):
    history = {"loss": [3, 2, 1], "val_loss": [3, 1, 2], "accuracy": [0, 1, 1]}
    history["val_accuracy"] = [0.5, 0.9, 0.8]
    fig = notebook.plot_history(history, rates=[0, 1, 0], restored=1)
    lines = {line.get_label(): line for line in fig.axes[1].lines}
    assert list(lines["training"].get_ydata()) == history["accuracy"]
    assert list(lines["validation"].get_ydata()) == history["val_accuracy"]
    assert (lines["restored"].get_xdata(), lines["restored"].get_ydata()) == ([2], [0.9])


def test_confusion_matrix_has_true_digits_in_rows(space, figure):
    axis = figure("Confusion matrix").axes[0]
    true, predicted = space["y_test_raw"], space["predicted"]
    written = np.zeros((10, 10), int)
    for text in axis.texts:
        column, row = (round(value) for value in text.get_position())
        written[row, column] = int(text.get_text())
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (true, predicted), 1)
    np.testing.assert_array_equal(written, expected)
    coloured = np.asarray(axis.images[0].get_array())
    np.testing.assert_array_equal(coloured, expected * (1 - np.eye(10)))
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted digit", "true digit")


def test_precision_and_recall_are_what_they_are_called(space, figure):
    (axis,) = figure("Precision and recall of each digit").axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    true, predicted = space["y_test_raw"], space["predicted"]
    for digit in range(10):
        hits = np.sum((true == digit) & (predicted == digit))
        assert lines["precision"][digit] == pytest.approx(hits / np.sum(predicted == digit))
        assert lines["recall"][digit] == pytest.approx(hits / np.sum(true == digit))


def test_edge_kernel_answers_with_the_brightness_step(space, figure):
    digit, kernel, answer = (picture for _, _, picture in pictures(figure("answer")))
    np.testing.assert_array_equal(digit, space["x_val"][0, ..., 0])
    row, column = 12, 14
    patch = digit[row - 1 : row + 2, column - 1 : column + 2]
    assert answer[row, column] == pytest.approx((patch * kernel).sum(), abs=1e-5)


def test_filters_are_those_of_the_first_layer(space, figure):
    shown = pictures(figure("The filters of the first layer"))
    kernels = space["model"].get_layer("conv_1").get_weights()[0]
    assert len(shown) == kernels.shape[-1]
    for title, _, picture in shown:
        np.testing.assert_array_equal(picture, kernels[:, :, 0, int(title)])


def test_feature_maps_come_from_their_layers(space, notebook, figure):
    fig = figure("One digit after each block")
    model, image = space["model"], space["x_test"][:1]
    named = {layer.name: layer.output for layer in model.layers}
    for text in [text for axis in fig.axes for text in axis.texts]:
        name = text.get_text().split("\n")[0]
        output = notebook.keras.Model(model.inputs, named[name]).predict(image, verbose=0)[0]
        top = text.axes.get_subplotspec().rowspan.start
        row = [a for a in fig.axes if a.images and a.get_subplotspec().rowspan.start == top]
        assert len(row) == 6
        for axis in row:
            picture = np.asarray(axis.images[0].get_array())
            distances = np.abs(output - picture[..., None]).max(axis=(0, 1))
            assert distances.min() < 1e-5


@pytest.mark.parametrize("title", ["Prediction and its probability", "The most confident errors"])
def test_predictions_belong_to_the_pictures(space, figure, notebook, title):
    """The model is asked once more about each picture; its answer is the title."""
    shown = pictures(figure(title))
    indices = [look_up(picture, space["x_test_raw"]) for _, _, picture in shown]
    given = space["model"].predict(
        notebook.preprocess_images(space["x_test_raw"][indices]), verbose=0
    )
    for (text, color, _), index, row in zip(shown, indices, given):
        true, answer = space["y_test_raw"][index], row.argmax()
        expected = f"{answer}: {100 * row.max():.0f} %"
        assert text == (expected if true == answer else f"{expected}\ntrue: {true}")
        assert color == (notebook.BLUE if true == answer else notebook.ORANGE)


def test_errors_are_the_most_confident_ones(space, figure):
    shown = pictures(figure("The most confident errors"))
    indices = [look_up(picture, space["x_test_raw"]) for _, _, picture in shown]
    probabilities, true = space["probabilities"], space["y_test_raw"]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != true)
    confidence = probabilities.max(axis=1)
    assert set(indices) <= set(wrong.tolist())
    assert list(confidence[indices]) == sorted(confidence[wrong], reverse=True)[: len(shown)]


def test_every_axis_with_a_frame_has_labels(sample_run):
    for fig in sample_run[1]:
        for axis in fig.axes:
            if axis.axison and axis.get_label() != "<colorbar>":
                assert axis.get_title(), "a panel has no title"
                assert axis.get_xlabel(), f"{axis.get_title()} has no x label"
                assert axis.get_ylabel(), f"{axis.get_title()} has no y label"
