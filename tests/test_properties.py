"""Properties that hold for every input, tried on inputs that hypothesis looks for.

Examples are drawn in the same order in each run, so a failure here is one that can be repeated.
"""

import gzip
import json
import string

import cells
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

fixtures = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
settings.register_profile(
    "notebook", deadline=None, derandomize=True, max_examples=40, suppress_health_check=fixtures
)
settings.load_profile("notebook")
few = settings(max_examples=10)  # where each example runs TensorFlow or draws a figure

DIGITS = hnp.arrays(np.uint8, st.tuples(st.integers(0, 5), st.just(28), st.just(28)))
ANY_ARRAY = hnp.arrays(
    st.sampled_from([np.uint8, np.int16, np.float32, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=30),
)
LABELS = hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 9))
SEEDS = st.integers(0, 2**31 - 1)
GREY = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    elements=st.floats(0, 1, width=32),
)


@st.composite
def answers(draw):
    """Draw probabilities (n, 10) and labels (n,)."""
    count = draw(st.integers(1, 20))
    shares = draw(hnp.arrays(np.float64, (count, 10), elements=st.floats(0.01, 1)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 9)))
    return shares / shares.sum(axis=1, keepdims=True), labels


# --- parameters, data --------------------------------------------------------------------------


@given(value=st.integers(-1000, 1000))
def test_from_environment_respects_its_bounds(notebook, monkeypatch, value):
    monkeypatch.setenv("MNIST_X", str(value))
    if 0 <= value <= 512:
        assert notebook.from_environment("X", 7, 0, 512) == value
    else:
        with pytest.raises(ValueError, match="is (below its minimum, 0|above its maximum, 512)"):
            notebook.from_environment("X", 7, 0, 512)


@given(array=hnp.arrays(np.uint8, (3, 4)), data=st.data())
def test_a_change_of_any_bit_is_found(notebook, array, data):
    digest = notebook.hashlib.sha256(array).hexdigest()
    changed = array.copy()
    byte, bit = data.draw(st.integers(0, 11)), data.draw(st.integers(0, 7))
    changed.flat[byte] ^= 1 << bit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "MNIST", {"x": ((3, 4), digest)})
        assert notebook.verify_mnist({"x": array}, "here")["x"] is array
        with pytest.raises(notebook.MNISTError, match="^here: x was altered"):
            notebook.verify_mnist({"x": changed}, "here")
        with pytest.raises(notebook.MNISTError, match=r"x is uint8 \(4, 3\), not uint8 \(3, 4\)"):
            notebook.verify_mnist({"x": array.T}, "here")


@given(body=st.binary(max_size=300))
def test_any_bytes_are_no_npz_file_in_one_sentence(notebook, tmp_path, body):
    path = tmp_path / "mnist.npz"
    path.write_bytes(body)
    with pytest.raises(notebook.MNISTError, match="is no readable .npz file of plain arrays"):
        notebook.read_npz(path)


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)))
def test_idx_files_lead_back(notebook, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    body = gzip.compress(header + array.tobytes())
    np.testing.assert_array_equal(notebook.read_idx(body, array.shape), array)
    with pytest.raises(ValueError, match="^not an idx file of uint8"):
        notebook.read_idx(body, (*array.shape, 1))
    for place in range(len(header)):
        other = header[:place] + bytes([header[place] ^ 1]) + header[place + 1 :]
        with pytest.raises(ValueError, match="^not an idx file of uint8"):
            notebook.read_idx(gzip.compress(other + array.tobytes()), array.shape)


@given(body=st.binary(max_size=200))
def test_idx_reader_survives_any_bytes(notebook, body):
    with pytest.raises((OSError, ValueError, EOFError)):
        notebook.read_idx(body, (2, 28, 28))


# --- preprocessing and the pipelines -----------------------------------------------------------


@given(images=DIGITS)
def test_preprocessing_is_invertible(notebook, images):
    result = notebook.preprocess_images(images)
    assert result.dtype == np.float32
    assert result.shape == (*images.shape, 1)
    assert not images.size or 0 <= result.min() <= result.max() <= 1
    np.testing.assert_array_equal(np.rint(result[..., 0] * 255).astype(np.uint8), images)


@given(images=ANY_ARRAY)
def test_preprocessing_takes_nothing_else(notebook, images):
    assume(images.dtype != np.uint8 or images.shape[1:] != (28, 28))
    with pytest.raises(ValueError, match=r"^preprocess_images needs uint8 \(n, 28, 28\), not .*\."):
        notebook.preprocess_images(images)


@given(labels=LABELS)
def test_one_hot_rows_sum_to_one_and_lead_back(notebook, labels):
    rows = notebook.one_hot(labels)
    assert rows.shape == (len(labels), 10)
    np.testing.assert_array_equal(rows.sum(axis=1), np.ones(len(labels)))
    np.testing.assert_array_equal(rows.argmax(axis=1), labels)


@given(labels=hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(-50, 50)))
def test_one_hot_takes_only_digits(notebook, labels):
    assume(labels.min() < 0 or labels.max() > 9)
    with pytest.raises(ValueError, match="^one_hot needs labels from 0 to 9.$"):
        notebook.one_hot(labels)


@few
@given(images=DIGITS.filter(len), seed=st.tuples(SEEDS, SEEDS))
def test_distorted_digits_stay_images(notebook, images, seed):
    images = notebook.preprocess_images(images)
    result = notebook.random_affine(images, seed).numpy()
    assert (result.shape, result.dtype) == (images.shape, np.float32)
    assert result.min() >= -1e-5 and result.max() <= images.max() + 1e-5
    np.testing.assert_array_equal(result, notebook.random_affine(images, seed))


@few
@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=SEEDS)
def test_an_epoch_holds_each_digit_at_most_once_with_its_label(notebook, count, batch_size, seed):
    images = np.zeros((count, 28, 28, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(count)
    labels = np.eye(10, dtype=np.float32)[np.arange(count) % 10]
    data = notebook.make_training_dataset(images, labels, batch_size, seed, augment=False)
    size, order = min(batch_size, count), []
    for x, y in data.as_numpy_iterator():
        assert len(x) == len(y) == size
        np.testing.assert_array_equal(y.argmax(axis=1), x[:, 0, 0, 0] % 10)
        order += x[:, 0, 0, 0].tolist()
    assert len(set(order)) == len(order) == count // size * size == int(data.cardinality()) * size
    data = notebook.make_evaluation_dataset(images, labels, batch_size)
    x = np.concatenate([x for x, _ in data.as_numpy_iterator()])
    np.testing.assert_array_equal(x, images)


# --- training ----------------------------------------------------------------------------------


@few
@given(steps=st.integers(1, 3000), peak=st.floats(1e-4, 0.1))
def test_learning_rate_stays_below_its_peak_and_ends_at_zero(notebook, steps, peak):
    model = notebook.keras.Sequential([notebook.keras.Input((1,)), notebook.keras.layers.Dense(1)])
    rate = notebook.compile_model(model, steps, peak)
    rates = [float(rate(step)) for step in {0, steps // 8, steps // 4, steps // 2, steps}]
    assert all(0 <= value <= peak * (1 + 1e-6) for value in rates)
    assert float(rate(max(steps, 2))) == pytest.approx(0, abs=peak * 1e-6)


@few
@given(data=st.data())
def test_every_bit_of_every_weight_counts(notebook, data):
    layers = notebook.keras.layers
    model = notebook.keras.Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(2)])
    before, weights = notebook.weights_sha256(model), model.get_weights()
    weight = weights[data.draw(st.integers(0, 3))]
    bits = weight.view(np.uint32)
    bits.flat[data.draw(st.integers(0, weight.size - 1))] ^= 1 << data.draw(st.integers(0, 22))
    model.set_weights(weights)
    assert notebook.weights_sha256(model) != before


@given(old=st.binary(max_size=50), new=st.binary(max_size=50), fails=st.booleans())
def test_a_file_holds_the_old_or_the_new(notebook, tmp_path, old, new, fails):
    path = tmp_path / "file"
    path.write_bytes(old)

    def write(temporary):
        temporary.write_bytes(new)
        assert path.read_bytes() == old
        if fails:
            raise OSError("disk full")

    try:
        notebook.write_atomically(path, write)
    except OSError:
        assert fails
    assert path.read_bytes() == (old if fails else new)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@given(body=st.binary(max_size=300))
def test_a_damaged_backup_is_left_alone(notebook, tmp_path, body):
    path = tmp_path / "backup.npz"
    path.write_bytes(body)
    assert notebook.load_training(path, None, {}) == ({}, {})


# --- answers -----------------------------------------------------------------------------------


@given(case=answers(), temperature=st.floats(0.2, 5))
def test_temperature_divides_the_logits(notebook, case, temperature):
    probabilities, _ = case
    scaled = notebook.scale_temperature(probabilities, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    ratios = [np.log(values / values[:, :1]) for values in (probabilities, scaled)]
    np.testing.assert_allclose(ratios[1], ratios[0] / temperature, atol=1e-9)
    back = notebook.scale_temperature(scaled, 1 / temperature)
    np.testing.assert_allclose(back, probabilities, atol=1e-9)


@given(case=answers())
def test_fitted_temperature_is_the_best(notebook, case):
    probabilities, labels = case
    best = notebook.fit_temperature(probabilities, labels)
    assert 0.2 <= best <= 5

    def loss(temperature):
        scaled = notebook.scale_temperature(probabilities, temperature)
        return -np.log(scaled[np.arange(len(labels)), labels]).mean()

    for other in (0.21, 0.5, 1.0, 2.0, 4.9, best * 1.05, best / 1.05):
        assert loss(best) <= loss(np.clip(other, 0.2, 5)) + 1e-5


@given(case=answers())
def test_calibration_error_is_a_share_and_bins_lose_nothing(notebook, case):
    probabilities, labels = case
    bins = notebook.calibration_bins(probabilities, labels)
    assert bins[:, 0].sum() == len(labels)
    assert bins[:, 0] @ bins[:, 2] == pytest.approx(np.sum(probabilities.argmax(axis=1) == labels))
    assert 0 <= notebook.calibration_error(probabilities, labels) <= 1


@given(features=hnp.arrays(np.float64, (15, 4), elements=st.floats(-10, 10)))
def test_familiarity_is_a_cosine(notebook, features):
    reference = np.random.default_rng(0).normal(size=(12, 4))
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    values = notebook.familiarity(features, reference)
    assert values.shape == (15,)
    assert np.all(np.abs(values) <= 1 + 1e-9)
    long = np.linalg.norm(features, axis=1) > 1e-6
    again = notebook.familiarity(features[long] * 3, reference)
    np.testing.assert_allclose(values[long], again, atol=1e-6)


@pytest.fixture(scope="module")
def untrained(notebook):
    """A network that was never trained, to features and probabilities."""
    model = notebook.build_cnn()
    outputs = [model.get_layer("flatten").output, model.outputs[0]]
    return notebook.keras.Model(model.inputs, outputs)


@few
@given(count=st.integers(0, 20), batch_size=st.sampled_from([1, 4, 500]), seed=SEEDS)
def test_batches_do_not_change_the_answers(notebook, untrained, count, batch_size, seed):
    images = np.random.default_rng(seed).random((count, 28, 28, 1), np.float32)
    labels, shares = notebook.predict_digits(images, notebook.Reader(untrained), batch_size)
    assert (labels.shape, shares.shape) == ((count,), (count, 10))
    np.testing.assert_allclose(shares.sum(axis=1), np.ones(count), atol=1e-6)
    np.testing.assert_array_equal(labels, shares.argmax(axis=1))
    confidence = shares.max(axis=1)
    reader = notebook.Reader(untrained, min_confidence=np.median([*confidence, 0.1]) + 1e-4)
    unsure, again = notebook.predict_digits(images, reader)
    np.testing.assert_allclose(again, shares, atol=1e-5)
    expected = np.where(again.max(axis=1) >= reader.min_confidence, labels, notebook.NOT_SURE)
    np.testing.assert_array_equal(unsure, expected)
    assert count < 2 or notebook.NOT_SURE in unsure


@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0.1, 1)), min_size=1, max_size=20
    )
)
def test_titles_say_whether_a_prediction_is_right(notebook, pairs):
    titles, colors = notebook.label_predictions(*map(np.array, zip(*pairs)))
    for (true, predicted, share), title, color in zip(pairs, titles, colors):
        assert title.startswith(f"{predicted}: {100 * share:.0f} %")
        assert (f"true: {true}" in title) == (true != predicted) == (color == notebook.ORANGE)


# --- pictures ----------------------------------------------------------------------------------


@given(array=ANY_ARRAY)
def test_any_array_becomes_grey_values_or_one_sentence(notebook, array):
    try:
        image = notebook.image_from_array(array)
    except notebook.DigitImageError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert isinstance(image, Image.Image)
        grey = notebook.to_grey(array)
        assert grey.dtype == np.float32
        assert grey.shape == array.shape[:2]
        assert 0 <= grey.min() <= grey.max() <= 1


@given(grey=GREY, side=st.integers(1, 120))
def test_a_picture_fits_its_side_and_stays_in_its_range(notebook, grey, side):
    small = notebook.fit_side(grey, side)
    assert max(small.shape) == side
    shrunk = side <= max(grey.shape)
    assert not shrunk or grey.min() - 1e-6 <= small.min() <= small.max() <= grey.max() + 1e-6
    paper = notebook.paper_level(grey)
    assert grey.min() - 1e-6 <= paper.min() <= paper.max() <= grey.max() + 1e-6


@given(image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50))))
def test_any_grey_picture_is_prepared_or_refused_in_one_sentence(notebook, image):
    try:
        ink = notebook.find_ink(image)
        digit = notebook.prepare_digit(image)
    except notebook.DigitImageError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert 0 <= ink.min() <= ink.max() <= 1
        assert digit.shape == (28, 28, 1) and np.isfinite(digit).all()


@given(
    ink=hnp.arrays(
        np.float32,
        st.tuples(st.integers(8, 40), st.integers(8, 40)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_framed_digits_have_the_form_of_mnist(notebook, ink):
    ink[2:6, 2:6] = 1  # some ink there must be
    digit = notebook.frame_digit(notebook.crop_digit(ink))
    assert (digit.shape, digit.dtype) == ((28, 28, 1), np.float32)
    assert digit.min() >= 0 and 0 < digit.max() <= 1
    rows, columns = np.nonzero(digit[..., 0])
    assert max(np.ptp(rows), np.ptp(columns)) < 20


@few
@given(places=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1))
def test_every_stroke_on_a_page_is_found_in_its_place(notebook, places):
    page = np.full((300, 500), 240, np.uint8)
    for row, column in places:
        page[100 * row + 20 : 100 * row + 80, 100 * column + 45 : 100 * column + 55] = 20
    boxes, digits = notebook.find_digits(page)
    assert len(boxes) == len(digits) == len(places)
    found = (boxes[:, :2] * [3, 5]).astype(int)
    assert [tuple(place) for place in found.tolist()] == sorted(places)


# --- experiments -------------------------------------------------------------------------------


@given(count=st.integers(1, 20), seed=SEEDS)
def test_picked_examples_are_distinct_and_balanced(notebook, count, seed):
    labels = np.eye(10)[np.arange(400) % 10]
    index = notebook.pick_examples(labels, range(5, 10), count, seed)
    assert len(set(index.tolist())) == 5 * count
    assert np.bincount(labels[index].argmax(axis=1), minlength=10).tolist() == [0] * 5 + [count] * 5


@given(text=st.text(string.printable, max_size=200))
def test_any_text_is_no_records_in_one_sentence(notebook, tmp_path, text):
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"holds no records \(\w+\); fetch or make it again\.$"):
        notebook.read_records(path)


@given(accuracies=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_records_lead_back_and_are_averaged(notebook, tmp_path, accuracies):
    path = tmp_path / "runs.jsonl"
    path.unlink(missing_ok=True)
    runs = notebook.Records(path)
    for seed, accuracy in enumerate(accuracies):
        row = {"accuracy": accuracy, "loss": 0.0, "epochs": 1, "seconds": 1.0, "variant": "a"}
        assert runs.get({"experiment": "e", "seed": seed}, lambda row=row: row)["seed"] == seed
    made_with, rows = notebook.read_records(path)
    assert made_with == notebook.made_with()
    assert [row["accuracy"] for row in rows] == json.loads(json.dumps(accuracies))
    table = notebook.accuracy_table(notebook.Records(path), "e", "variant")
    assert table.loc["a", "mean"] == pytest.approx(np.mean(accuracies), abs=6e-5)
    assert table.loc["a", "runs"] == len(accuracies)


KINDS = {  # kind: the amount that does nothing, and the range of the others
    "noise": (0, st.floats(0.05, 1)),
    "blur": (0, st.floats(0.5, 3)),
    "contrast": (1, st.floats(0.1, 0.9)),
    "rotation": (0, st.floats(5, 90)),
    "translation": (0, st.integers(1, 8)),
    "scale": (1, st.floats(0.5, 0.95)),
    "occlusion": (0, st.integers(5, 16)),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), seed=SEEDS)
def test_damage_grows_from_nothing_and_stays_an_image(notebook, kind, data, seed):
    nothing, amounts = KINDS[kind]
    images = np.random.default_rng(seed).random((3, 28, 28, 1), np.float32)
    np.testing.assert_allclose(notebook.damage(images, kind, nothing, seed), images, atol=1e-6)
    amount = data.draw(amounts)
    damaged = notebook.damage(images, kind, amount, seed)
    assert (damaged.shape, damaged.dtype) == (images.shape, np.float32)
    assert 0 <= damaged.min() <= damaged.max() <= 1
    assert np.abs(damaged - images).max(axis=(1, 2, 3)).min() > 0.01
    np.testing.assert_array_equal(damaged, notebook.damage(images, kind, amount, seed))


def test_damages_by_hand(notebook):
    """A spot 8 pixels right of the centre goes where each motion should take it."""
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[0, 13:15, 21:23] = 1

    def center(kind, amount):
        damaged = notebook.damage(image, kind, amount)[0, ..., 0]
        y, x = np.mgrid[:28, :28]
        return [np.sum(damaged * axis) / damaged.sum() for axis in (y, x)]

    np.testing.assert_allclose(center("translation", 3), [16.5, 24.5], atol=0.05)
    np.testing.assert_allclose(center("scale", 0.5), [13.5, 17.5], atol=0.1)
    np.testing.assert_allclose(center("rotation", 90), [5.5, 13.5], atol=0.05)
    np.testing.assert_allclose(center("blur", 1), [13.5, 21.5], atol=0.05)
    faint = notebook.damage(image, "contrast", 0.5)
    np.testing.assert_allclose([faint.min(), faint.max()], [0.25, 0.75])
    full = np.ones((50, 28, 28, 1), np.float32)
    hidden = notebook.damage(full, "occlusion", 6)
    assert (hidden == 0).sum(axis=(1, 2, 3)).tolist() == [36] * 50
    noisy = notebook.damage(np.full((20, 28, 28, 1), 0.5, np.float32), "noise", 0.1)
    assert noisy.std() == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ValueError, match="^There is no damage called 'rust'.$"):
        notebook.damage(image, "rust", 1)


@few
@given(epsilon=st.floats(0.01, 0.3), seed=SEEDS)
def test_an_attack_stays_near_and_raises_the_loss(notebook, untrained, epsilon, seed):
    model = notebook.keras.Model(untrained.inputs[0], untrained.outputs[1])
    images = np.random.default_rng(seed).random((4, 28, 28, 1), np.float32)
    labels = np.eye(10, dtype=np.float32)[[0, 3, 6, 9]]
    attacked = notebook.fgsm(model, images, labels, epsilon)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert np.abs(attacked - images).max() <= epsilon + 1e-6
    losses = [
        notebook.keras.losses.categorical_crossentropy(labels, model(x)).numpy().mean()
        for x in (images, attacked)
    ]
    assert losses[1] > losses[0]
    again = notebook.change_images(model, images, labels, "attack", epsilon)
    np.testing.assert_array_equal(again, attacked)
    kept = notebook.accuracies(model, images, labels, "attack", (0, epsilon))
    assert kept[0] == np.mean(model(images).numpy().argmax(axis=1) == [0, 3, 6, 9])


# --- all of them -------------------------------------------------------------------------------


def test_every_function_of_the_notebook_is_named_in_a_test():
    tests = "\n".join(path.read_text() for path in sorted(cells.ROOT.glob("tests/test_*.py")))
    defined = {
        name
        for name, value in vars(cells.load_definitions()).items()
        if getattr(value, "__module__", None) == "digitclassification"
    }
    assert len(defined) > 50
    indirectly = {"native_stderr_closed", "without_autotune"}  # by the imports, by the pipelines
    missing = {name for name in defined - indirectly if name not in tests}
    assert not missing, f"no test names {sorted(missing)}"
