"""From any picture to an MNIST digit, and the answer 'not sure'."""

import base64
import io
import statistics
import time
import zlib

import cells
import make_examples
import numpy as np
import pytest
from PIL import Image

EXAMPLES = cells.ROOT / "examples"


def stroke(shape=(240, 200), box=(60, 100, 180, 116), paper=235, ink=30):
    """Return a grey picture with an upright bar: (top, left, bottom, right) of `box`."""
    picture = np.full(shape, paper, np.uint8)
    picture[box[0] : box[2], box[1] : box[3]] = ink
    return picture


# --- the frame ---------------------------------------------------------------------------------


def test_digit_is_framed_as_in_mnist(notebook):
    digit = notebook.prepare_digit(stroke())
    assert digit.shape == (28, 28, 1)
    assert digit.dtype == np.float32
    assert digit.min() == 0
    assert digit.max() == pytest.approx(1, abs=0.01)
    rows, columns = np.nonzero(digit[..., 0] > 0.3)
    assert rows.max() - rows.min() + 1 == 20
    assert columns.max() - columns.min() + 1 == pytest.approx(20 * 16 / 120, abs=1)
    assert notebook.ndimage.center_of_mass(digit[..., 0]) == pytest.approx((14, 14), abs=0.51)


def test_proportions_are_kept(notebook):
    wide = notebook.prepare_digit(stroke((200, 300), (90, 60, 130, 220)))
    rows, columns = np.nonzero(wide[..., 0] > 0.5)
    assert columns.max() - columns.min() + 1 == 20
    assert rows.max() - rows.min() + 1 == pytest.approx(20 * 40 / 160, abs=1)


def test_center_of_mass_is_in_the_middle_not_the_box(notebook):
    """A 7 without its serif: most ink lies at the top, so the box hangs lower."""
    picture = stroke((200, 200), (40, 60, 80, 140))
    picture[80:160, 120:140] = 30
    digit = notebook.prepare_digit(picture)[..., 0]
    assert notebook.ndimage.center_of_mass(digit) == pytest.approx((14, 14), abs=0.51)
    assert np.nonzero(digit > 0.5)[0].min() > 4


def test_thin_strokes_are_widened(notebook):
    digit = notebook.prepare_digit(stroke((400, 300), (50, 150, 350, 153)))
    assert digit[14, :, 0].sum() == pytest.approx(2.2, abs=0.7)


def test_mnist_comes_out_nearly_as_it_went_in(notebook, sample_run):
    images = sample_run[0]["x_train_full"][:100]
    out = np.stack([notebook.prepare_digit(image)[..., 0] for image in images])
    similar = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, out)]
    assert np.median(similar) > 0.9


@pytest.mark.parametrize("change", ["inverted", "smaller", "larger", "shaded", "moved"])
def test_light_size_and_place_do_not_matter(notebook, change):
    picture = Image.open(EXAMPLES / "digit-3-marker-21.png").convert("L")
    expected = notebook.prepare_digit(picture)
    array = np.asarray(picture)
    shade = np.linspace(0.5, 1, array.shape[1])
    changed = {
        "inverted": 255 - array,
        "smaller": np.asarray(picture.resize((120, 120))),
        "larger": np.asarray(picture.resize((960, 960))),
        "shaded": (array * shade).astype(np.uint8),
        "moved": np.pad(array, ((0, 90), (60, 0)), constant_values=255),
    }[change]
    got = notebook.prepare_digit(changed)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.93


def test_kinds_of_input_agree(notebook, tmp_path):
    array = stroke()
    expected = notebook.prepare_digit(array)
    Image.fromarray(array).save(tmp_path / "digit.png")
    color = np.stack([array] * 3, axis=2)
    alpha = np.dstack([np.zeros_like(color), 255 - array])
    for image in (
        tmp_path / "digit.png", str(tmp_path / "digit.png"), Image.fromarray(array), color,
        array[..., None], array / 255, (array / 255).astype(np.float32), alpha,
        Image.fromarray(array).convert("P"), Image.fromarray(array).convert("LA"),
        Image.fromarray(array.astype(np.uint16) * 257),
    ):  # fmt: skip
        assert np.abs(notebook.prepare_digit(image) - expected).max() < 0.1


def test_light_ink_on_transparent_ground(notebook):
    array = stroke()
    cover = 255 - array
    white = np.dstack([np.full((*array.shape, 3), 255, np.uint8), cover])
    difference = notebook.prepare_digit(white) - notebook.prepare_digit(array)
    assert np.abs(difference).max() < 0.1


def test_exif_rotation_is_respected(notebook, tmp_path):
    picture = Image.open(EXAMPLES / "digit-2-marker-35.png").convert("L").crop((0, 0, 240, 230))
    exif = Image.Exif()
    exif[0x0112] = 6
    side = picture.transpose(Image.Transpose.ROTATE_90)
    side.save(tmp_path / "side.jpg", exif=exif, quality=95)
    side.save(tmp_path / "lying.jpg", quality=95)
    upright, rotated, lying = (
        notebook.prepare_digit(image).ravel()
        for image in (picture, tmp_path / "side.jpg", tmp_path / "lying.jpg")
    )
    assert notebook.open_image(tmp_path / "side.jpg").size == picture.size
    opened = notebook.prepare_digit(Image.open(tmp_path / "side.jpg")).ravel()
    np.testing.assert_array_equal(opened, rotated)
    assert np.corrcoef(upright, rotated)[0, 1] > 0.98
    assert np.corrcoef(upright, lying)[0, 1] < 0.7


def test_specks_are_left_out_and_the_hat_of_a_5_is_not(notebook):
    ink = np.zeros((100, 100))
    ink[20:30, 30:70] = ink[40:90, 30:50] = ink[3:5, 95:97] = 1
    cropped = notebook.crop_digit(ink)
    assert cropped.shape == (70, 40)


# --- bad input ---------------------------------------------------------------------------------


def bomb(folder):
    """A small PNG whose header promises 30,000 x 30,000 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    body = bytearray(buffer.getvalue())
    body[16:24] = (30_000).to_bytes(4, "big") * 2
    crc = zlib.crc32(bytes(body[12:29]))
    body[29:33] = crc.to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(body)
    return folder / "bomb.png"


def text(folder):
    (folder / "letter.png").write_text("Dear network,")
    return folder / "letter.png"


def cut(folder):
    whole = (EXAMPLES / "digit-2-marker-35.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.png"


RNG = np.random.default_rng(0)
BAD = {
    "missing": (lambda folder: folder / "none.png", "none.png does not exist; correct the path."),
    "no image": (text, "letter.png is no readable image; save it as PNG or JPEG."),
    "cut off": (cut, "cut.png is no readable image; save it as PNG or JPEG."),
    "a folder": (lambda folder: folder, "is no readable image; save it as PNG or JPEG."),
    "decompression bomb": (bomb, "bomb.png has too many pixels; save it smaller."),
    "blank": (lambda _: np.full((90, 90), 255, np.uint8), "No ink stands out from the paper"),
    "black": (lambda _: np.zeros((90, 90), np.uint8), "No ink stands out from the paper"),
    "one pixel": (lambda _: np.zeros((1, 1), np.uint8), "No ink stands out from the paper"),
    "hardly any contrast": (
        lambda _: stroke(paper=200, ink=196), "No ink stands out from the paper; write darker"
    ),
    "grainy blank": (
        lambda _: RNG.normal(180, 12, (300, 400)).clip(0, 255).astype(np.uint8),
        "No ink stands out from the paper",
    ),
    "shaded blank": (
        lambda _: np.tile(np.linspace(90, 240, 400).astype(np.uint8), (300, 1)),
        "No ink stands out from the paper",
    ),
    "empty": (lambda _: np.zeros((0, 5), np.uint8), "this is uint8 (0, 5)."),
    "four axes": (lambda _: np.zeros((1, 9, 9, 1), np.uint8), "this is uint8 (1, 9, 9, 1)."),
    "five channels": (lambda _: np.zeros((9, 9, 5), np.uint8), "this is uint8 (9, 9, 5)."),
    "floats up to 255": (lambda _: stroke().astype(float), "this is float64 (240, 200)."),
    "not a number": (lambda _: np.full((9, 9), np.nan), "this is float64 (9, 9)."),
    "not a picture": (lambda _: None, "this is object ()."),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_clear_sentence(notebook, tmp_path, fault):
    make, words = BAD[fault]
    image = make(tmp_path)
    with pytest.raises(notebook.DigitImageError) as caught:
        notebook.prepare_digit(image)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.endswith(".")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- the examples ------------------------------------------------------------------------------


def test_examples_are_those_that_the_script_draws(tmp_path):
    make_examples.main(tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in EXAMPLES.iterdir())
    assert sum(name.startswith("digit-") for name in drawn) >= 30
    for name in drawn:
        fresh, kept = (np.asarray(Image.open(f / name), float) for f in (tmp_path, EXAMPLES))
        assert fresh.shape == kept.shape
        assert np.abs(fresh - kept).mean() < 2, name


def test_examples_are_read_rightly_even_by_the_network_of_the_sample(sample_run):
    assert sample_run[0]["results"]["drawn digits"]["right"] >= 0.85


def test_pages_are_read_in_order(notebook, sample_run):
    for path in EXAMPLES.glob("page-*"):
        boxes, digits = notebook.find_digits(path)
        written = [int(c) for c in path.stem.removeprefix("page-").replace("-", "")]
        assert len(boxes) == len(digits) == len(written)
        shares = notebook.predict_digits(digits, sample_run[0]["reader"])[1]
        assert np.mean(shares.argmax(axis=1) == written) >= 0.8
        assert np.all((boxes >= 0) & (boxes <= 1))


def test_reading_order_and_boxes(notebook):
    picture = np.full((300, 400), 255, np.uint8)
    places = [(40, 60), (30, 200), (50, 330), (190, 90), (200, 260)]  # slightly uneven rows
    for number, (top, left) in enumerate(places):
        picture[top : top + 60 + number, left : left + 12] = 0
    boxes, _ = notebook.find_digits(picture)
    corners = boxes[:, :2] * picture.shape
    np.testing.assert_allclose(corners, places, atol=6)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7, 1203])
def test_predict_digits_takes_any_number(notebook, sample_run, count):
    reader, images = sample_run[0]["reader"], sample_run[0]["x_train"]
    images = np.resize(images, (count, 28, 28, 1))
    labels, shares = notebook.predict_digits(list(images), reader)
    assert labels.shape == (count,)
    assert shares.shape == (count, 10)
    if count:
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
        sure = labels != notebook.NOT_SURE
        np.testing.assert_array_equal(labels[sure], shares.argmax(axis=1)[sure])


def test_predict_digits_refuses_other_shapes(notebook, sample_run):
    with pytest.raises(ValueError, match=r"needs images \(28, 28, 1\), not \(28, 28\)"):
        notebook.predict_digits(np.zeros((3, 28, 28)), sample_run[0]["reader"])


def test_probabilities_are_calibrated(notebook, sample_run):
    space, _ = sample_run
    images = space["x_test"][:40]
    plain = space["model"].predict(images, verbose=0)
    _, shares = notebook.predict_digits(images, notebook.Reader(space["network"], temperature=3))
    expected = notebook.scale_temperature(plain, 3)
    np.testing.assert_allclose(shares, expected, atol=1e-4)
    assert np.abs(shares - plain).max() > 0.01


def test_both_thresholds_count(notebook, sample_run):
    space, _ = sample_run
    reader = space["reader"]
    images = space["x_test"]
    labels, shares = notebook.predict_digits(images, reader)
    features = reader.network.predict(images, verbose=0)[0]
    unsure = shares.max(axis=1) < reader.min_confidence
    strange = notebook.familiarity(features, reader.reference) < reader.min_familiarity
    assert unsure.any() and strange.any() and (unsure != strange).any()
    np.testing.assert_array_equal(labels == notebook.NOT_SURE, unsure | strange)


def test_thresholds_cost_few_validation_digits(sample_run):
    space, _ = sample_run
    labels, _ = space["predict_digits"](space["x_val"], space["reader"])
    assert 0.01 <= np.mean(labels == space["NOT_SURE"]) <= 0.035


def test_familiarity_is_a_cosine_to_the_tenth_nearest(notebook):
    angles = np.deg2rad(np.arange(0, 60, 3))
    reference = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    value = notebook.familiarity(np.array([[5.0, 0.0]]), reference)
    assert value == pytest.approx(np.cos(np.deg2rad(27)))


def test_temperature_is_found_again(notebook):
    rng = np.random.default_rng(0)
    true = notebook.softmax(rng.normal(0, 2, (20_000, 10)), axis=1)
    labels = np.array([rng.choice(10, p=row) for row in true])
    overconfident = notebook.scale_temperature(true, 0.5)
    assert notebook.fit_temperature(overconfident, labels) == pytest.approx(2, abs=0.1)
    before = notebook.calibration_error(overconfident, labels)
    after = notebook.calibration_error(notebook.scale_temperature(overconfident, 2), labels)
    assert after < 0.02 < 0.1 < before


def test_calibration_error_by_hand(notebook):
    """Four answers at 0.9, three right; two at 0.6, one right: (4 * 0.15 + 2 * 0.1) / 6."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    probabilities = np.zeros((6, 10))
    probabilities[:, 0], probabilities[:, 1] = confidence, 1 - confidence
    labels = np.array([0, 0, 0, 1, 0, 1])
    assert notebook.calibration_error(probabilities, labels) == pytest.approx(0.8 / 6)
    np.testing.assert_allclose(
        notebook.calibration_bins(probabilities, labels), [[2, 0.6, 0.5], [4, 0.9, 0.75]]
    )


# --- the drawing pad ---------------------------------------------------------------------------


def data_url(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_pad_answers_within_50_ms(notebook, sample_run):
    pad = notebook.DrawingPad(sample_run[0]["reader"])
    picture = Image.open(EXAMPLES / "digit-2-marker-35.png").resize((280, 280))
    seconds = []
    for number in range(30):
        changed = picture.copy()
        changed.putpixel((number, 0), 0)  # another drawing each time
        url = data_url(changed)
        started = time.perf_counter()
        pad.sheet = url
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 0.05
    assert len(pad.pixels) == 784
    assert pad.answer.count("<progress") == 10
    pad.sheet = data_url(Image.new("L", (280, 280), 255))
    assert pad.answer == "Draw a digit."
    assert set(pad.pixels) == {0}


def test_no_person_in_a_headless_run(notebook):
    assert not notebook.person_present()


def test_reading_is_shown_step_by_step(notebook, sample_run):
    reader = sample_run[0]["reader"]
    fig = notebook.plot_reading([stroke()], reader)
    assert [ax.get_title() for ax in fig.axes][:4] == ["picture", "ink", "crop", "28 x 28"]
    digit = notebook.prepare_digit(stroke())
    np.testing.assert_array_equal(np.squeeze(fig.axes[3].images[0].get_array()), digit[..., 0])
    shares = notebook.predict_digits([digit], reader)[1][0]
    np.testing.assert_allclose([bar.get_height() for bar in fig.axes[4].patches], shares)
    unsure = notebook.Reader(reader.network, min_confidence=1.1)
    assert notebook.plot_reading([stroke()], unsure).axes[4].get_title() == "not sure"
