"""Every figure shows what its labels say: pictures are looked up in the data by their pixels."""

import numpy as np
import pytest


@pytest.fixture
def figure(sample_run):
    """Return a function that finds the one figure that has `text` in its titles."""

    def find(text):
        titles = [[f.get_suptitle(), *(a.get_title() for a in f.axes)] for f in sample_run[1]]
        (found,) = [f for f, t in zip(sample_run[1], titles) if text in "|".join(t)]
        return found

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


def numbers(table):
    """Return the numbers (3, 3) in the squares of a `table` of matplotlib."""
    texts = {place: square.get_text().get_text() for place, square in table.get_celld().items()}
    return np.array([[float(texts[row, column]) for column in range(3)] for row in range(3)])


def test_samples_stand_under_their_labels(space, figure):
    shown = pictures(figure("training images and their labels"))
    assert len(shown) == 24
    for title, _, picture in shown:
        assert title == str(space["train_labels"][look_up(picture, space["train_images"])])


def test_augmented_digits_are_variations_of_the_original(space, figure):
    def coarse(picture):
        return picture.reshape(7, 4, 7, 4).mean(axis=(1, 3)).ravel()

    shown = pictures(figure("original"))
    assert [title == "original" for title, _, _ in shown] == [i == 0 for i in range(21)]
    for row in range(3):
        original = shown[7 * row][2]
        look_up(original, space["train_images"])
        for _, _, picture in shown[7 * row + 1 : 7 * row + 7]:
            assert np.abs(picture - original).max() > 0.03
            assert np.corrcoef(coarse(original), coarse(picture))[0, 1] > 0.3


def curves(axis):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines
    }


def test_learning_curves_are_named_rightly_and_the_best_epoch_is_marked(notebook):
    history = {"loss": [3, 2, 1], "val_loss": [3, 1, 2], "accuracy": [0.1, 0.2, 0.3]}
    history["val_accuracy"] = [0.5, 0.8, 0.9]
    for axis, metric in zip(notebook.plot_history(history, "").axes, ("loss", "accuracy")):
        lines, validation = curves(axis), history[f"val_{metric}"]
        assert lines["training"] == ([1, 2, 3], history[metric])
        assert lines["validation"] == ([1, 2, 3], validation)
        assert lines["best"] == ([2], [validation[1]])


def test_learning_curves_are_those_of_the_trainings(space, figure):
    for name, title in (("model", "Training of the network"), ("overfitted", "learned by heart")):
        for axis in figure(title).axes:
            validation = curves(axis)["validation"][1]
            assert validation == space[name].history.history[f"val_{axis.get_title()}"]
    losses = space["overfitted"].history.history["val_loss"]
    assert losses[-1] > 1.1 * min(losses), "nothing is overfitted"
    (given,) = space["model"].evaluate(space["x_val"], space["y_val"], verbose=0)[:1]
    assert given == pytest.approx(min(space["history"]["val_loss"]), rel=1e-4)


def test_confusion_matrix_counts_true_digits_in_rows(space, figure):
    axis = figure("Confusion matrix").axes[0]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (space["test_labels"], space["predicted"]), 1)
    shown = np.zeros((10, 10), int)
    for text in axis.texts:
        column, row = text.get_position()
        shown[row, column] = text.get_text()
    np.testing.assert_array_equal(shown, expected)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted digit", "true digit")
    recalls = [float(line.split()[2]) for line in space["report"].splitlines()[2:12]]
    np.testing.assert_allclose(recalls, np.diag(expected) / expected.sum(axis=1), atol=6e-5)


def test_convolution_is_shown_with_its_numbers(space, figure):
    fig = figure("its part")
    shown = {title: picture for title, _, picture in pictures(fig)}
    assert look_up(shown["digit"], space["train_images"]) == 0
    axes = {axis.get_title(): axis for axis in fig.axes}
    tables = {title: numbers(axes[title].tables[0]) for title in ("its part", "kernel")}
    answers, kernel = shown["all answers"], space["kernel"]
    for row, column in np.ndindex(answers.shape):
        part = shown["digit"][row : row + 3, column : column + 3]
        assert answers[row, column] == pytest.approx((part * kernel).sum(), abs=1e-5)
    np.testing.assert_array_equal(tables["kernel"], kernel)
    column, row = np.round(np.add(axes["digit"].patches[0].get_xy(), 0.5)).astype(int)
    part = shown["digit"][row : row + 3, column : column + 3]
    np.testing.assert_allclose(tables["its part"], part, atol=0.051)
    assert answers[row, column] == answers.max()


def test_filters_are_those_of_the_first_layer_with_their_answers(space, figure):
    shown = pictures(figure("kernels of the first layer"))
    kernels, digit = space["model"].get_weights()[0], space["digit"][0, ..., 0]
    for (title, _, kernel), (_, _, answers) in zip(shown[:4], shown[4:], strict=True):
        np.testing.assert_array_equal(kernel, kernels[:, :, 0, int(title.split()[1])])
        for row, column in ((12, 12), (9, 15)):
            part = digit[row : row + 5, column : column + 5]
            assert answers[row, column] == pytest.approx((part * kernel).sum(), abs=1e-4)


def test_maps_come_from_their_blocks_and_the_answer_from_the_network(space, notebook, figure):
    fig = figure("blocks, and the answer")
    model, image = space["model"], space["x_test"][:1]
    texts = [text for axis in fig.axes for text in axis.texts]
    assert len(texts) == 3
    for text in texts:
        layer = model.get_layer(text.get_text().split("\n")[0])
        output = notebook.keras.Model(model.inputs, layer.output).predict(image, verbose=0)[0]
        top = text.axes.get_subplotspec().rowspan.start
        row = [a for a in fig.axes if a.images and a.get_subplotspec().rowspan.start == top]
        for axis in row:
            picture = np.asarray(axis.images[0].get_array())
            assert np.abs(output - picture[..., None]).max(axis=(0, 1)).min() < 1e-5
    heights = [bar.get_height() for axis in fig.axes for bar in axis.patches]
    np.testing.assert_allclose(heights, model.predict(image, verbose=0)[0], atol=1e-5)


@pytest.mark.parametrize("title", ["Predictions", "most confident errors"])
def test_predictions_belong_to_the_pictures(space, figure, notebook, title):
    """The model is asked once more about each picture; its answer is the title."""
    shown = pictures(figure(title))
    indices = [look_up(picture, space["test_images"]) for _, _, picture in shown]
    given = space["model"].predict(space["x_test"][indices], verbose=0)
    for (text, color, _), true, row in zip(shown, space["test_labels"][indices], given):
        assert text == f"{row.argmax()}: {100 * row.max():.0f} %\ntrue: {true}"
        assert color == (notebook.BLUE if row.argmax() == true else notebook.ORANGE)


def test_errors_are_the_most_confident_ones(space, figure):
    shown = pictures(figure("most confident errors"))
    indices = [look_up(picture, space["test_images"]) for _, _, picture in shown]
    confidence = space["probabilities"].max(axis=1)
    wrong = np.flatnonzero(space["probabilities"].argmax(axis=1) != space["test_labels"])
    assert list(confidence[indices]) == sorted(confidence[wrong], reverse=True)[: len(shown)]


def test_every_axis_with_a_frame_has_labels(sample_run):
    for fig in sample_run[1]:
        for axis in fig.axes:
            if axis.axison and axis.get_label() != "<colorbar>" and len(axis.get_xticks()):
                inner = axis.get_subplotspec().colspan.start > 0  # its row's first has the label
                assert axis.get_title() or fig.get_suptitle(), "a panel has no title"
                digits = list(axis.get_xticks()) == list(range(10))  # say what they are
                label = axis.get_ylabel() or fig.get_supylabel()
                assert axis.get_xlabel() or digits, f"{axis.get_title()} has no x label"
                assert label or inner, f"{axis.get_title()} has no y label"
