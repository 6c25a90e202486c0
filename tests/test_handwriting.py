"""From any picture to an MNIST digit, and the answer 'not sure'."""

import base64
import io
import statistics
import sys
import time

import cells
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import read_pictures  # noqa: E402


def bars(shape, boxes, paper=235, ink=30):
    """Return a grey picture of upright bars, each of `boxes` (top, left, bottom, right)."""
    picture = np.full(shape, paper, np.uint8)
    for top, left, bottom, right in boxes:
        picture[top:bottom, left:right] = ink
    return picture


def likeness(one, two):
    return np.corrcoef(np.ravel(one), np.ravel(two))[0, 1]


# --- the frame ---------------------------------------------------------------------------------

STROKES = (40, 40, 80, 140), (80, 120, 240, 140)  # those of a 7
SEVEN = bars((300, 200), STROKES, paper=0, ink=255)


def test_digit_is_framed_as_in_mnist(notebook):
    """A 7 of 200 x 100: most ink lies at the top, so the box hangs lower than the middle."""
    digit = notebook.frame_digit(SEVEN)
    assert (digit.shape, digit.dtype) == ((28, 28, 1), np.float32)
    assert (digit.min(), digit.max()) == (0, 1)
    rows, columns = np.nonzero(digit[..., 0])
    assert rows.max() - rows.min() + 1 == 20
    assert columns.max() - columns.min() + 1 == 10
    assert notebook.ndimage.center_of_mass(digit[..., 0]) == pytest.approx((14, 14), abs=0.51)
    assert rows.min() > 4


def test_the_box_stays_in_the_frame(notebook):
    """All ink but a pixel is at the top; the box would hang out of the frame below."""
    ink = np.zeros((100, 100))
    ink[:5], ink[99, 50] = 1, 0.1
    rows, _ = np.nonzero(notebook.frame_digit(ink)[..., 0] > 0.5)
    assert rows.min() == 8  # of 28, and the box has 20


def test_thin_strokes_are_not_pale(notebook):
    digit = notebook.frame_digit(bars((400, 300), [(50, 150, 350, 153)], paper=0, ink=200))
    assert digit[8:20].max(axis=1) == pytest.approx(1, abs=0.1)


def test_mnist_comes_out_nearly_as_it_went_in(notebook, sample_run):
    images = sample_run[0]["train_images"][:50]
    large = [np.kron(image, np.ones((7, 7))) for image in images]
    assert np.median(list(map(likeness, images, map(notebook.frame_digit, large)))) > 0.95
    assert np.median(list(map(likeness, images, map(notebook.prepare_digit, images)))) > 0.9


def test_photographs_come_out_as_the_images_that_were_photographed(notebook, sample_run):
    images, generator = sample_run[0]["train_images"][:50], np.random.default_rng(0)
    files = [notebook.photograph([image], generator) for image in images]
    assert np.median(list(map(likeness, images, map(notebook.prepare_digit, files)))) > 0.85
    page = notebook.photograph(images[:12], generator, columns=4, room=14)
    assert Image.open(io.BytesIO(page)).size == (6 * (4 * 42 + 16), 6 * (3 * 42 + 16))
    digits = notebook.find_digits(page)[1]
    assert np.median(list(map(likeness, images[:12], digits))) > 0.8


# --- what is ink -------------------------------------------------------------------------------

GREY = bars((300, 200), STROKES)
LIGHTS = {  # what may happen to a picture without changing the digit
    "light on dark": 255 - GREY,
    "faint": GREY // 8 + 100,
    "light from one side": GREY * np.linspace(1, 0.5, 200),
    "far": np.pad(GREY, 150, constant_values=235),
    "a speck": bars((300, 200), [*STROKES, (260, 30, 268, 38)]),
    "something at the edge": bars((300, 200), [*STROKES, (0, 0, 300, 12)]),
}


@pytest.mark.parametrize("name", LIGHTS)
def test_light_place_and_surroundings_do_not_matter(notebook, name):
    assert likeness(notebook.prepare_digit(LIGHTS[name]), notebook.prepare_digit(GREY)) > 0.95


def test_specks_and_what_runs_off_are_left_out_and_the_hat_of_a_5_is_not(notebook):
    ink = np.zeros((100, 100))
    ink[20:30, 30:70] = ink[40:90, 30:50] = 1
    expected = ink.copy()
    ink[3:5, 95:97] = ink[60:, 80:90] = 1
    np.testing.assert_array_equal(notebook.keep_digit(ink), expected)


def test_ink_that_reaches_the_border_stays_if_there_is_no_other(notebook):
    ink = np.zeros((100, 100))
    ink[20:, 30:50] = 1
    np.testing.assert_array_equal(notebook.keep_digit(ink), ink)


# --- what may come in --------------------------------------------------------------------------

PICTURE = Image.fromarray(GREY)
COLOR = np.dstack([GREY] * 3)


def png(picture):
    picture.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


INPUTS = {
    "bytes of a file": png(PICTURE),
    "open file": io.BytesIO(png(PICTURE)),
    "RGB": COLOR,
    "RGBA": np.dstack([COLOR, np.full_like(GREY, 255)]),
    "(h, w, 1)": GREY[..., None],
    "list": GREY.tolist(),
    "integers": GREY.astype(int),
    "floats to 255": GREY.astype(float),
    "floats to 1": GREY / 255,
    "yes and no": GREY > 100,
    "palette": PICTURE.convert("P"),
    "black and white": Image.fromarray(GREY > 100),
    "dark on nothing": np.dstack([0 * COLOR, 255 - GREY]),
    "grey and alpha": Image.fromarray(np.dstack([0 * GREY, 255 - GREY]), "LA"),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_kinds_of_picture_agree(notebook, kind):
    assert likeness(notebook.prepare_digit(INPUTS[kind]), notebook.prepare_digit(GREY)) > 0.97


def test_a_phones_photograph_is_upright_and_reduced_as_it_is_opened(notebook, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    photo = PICTURE.transpose(Image.Transpose.ROTATE_90).resize((4000, 2667))
    photo.save(tmp_path / "photo.jpg", exif=exif)
    for path in (tmp_path / "photo.jpg", str(tmp_path / "photo.jpg")):
        assert notebook.to_grey(path).size == (683, 1024)
        assert likeness(notebook.prepare_digit(path), notebook.prepare_digit(GREY)) > 0.95
    assert PICTURE.size == (200, 300), "the caller's picture was changed"


UNREADABLE, BLANK = "This is no readable picture (", "No ink stands out from the paper; "
BAD = {
    "missing file": ("none.png", "none.png does not exist; correct the path."),
    "no picture": (cells.PATH, UNREADABLE),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "(export HEIC as JPEG)"),
    "empty page": (np.full((90, 90), 255, np.uint8), BLANK),
    "sheet in a shadow": (np.tile(np.linspace(90, 240, 400).astype(np.uint8), (300, 1)), BLANK),
    "flat array": (GREY.ravel(), UNREADABLE + "shape (60000,)"),
    "values beyond 255": (GREY * 257.0, "values outside 0 to 255"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_clear_sentence(notebook, fault):
    image, words = BAD[fault]
    with pytest.raises(notebook.DigitImageError) as caught:
        notebook.prepare_digit(image)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message and message.endswith(".")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [
    [(40, 60), (30, 200), (50, 330), (190, 90), (200, 260)],  # slightly uneven
    # slanting: the last of the first row is lower than the first of the second
    [(top + 15 * i, left + 60 * i) for top, left in ((20, 30), (110, 40)) for i in range(6)],
], ids=["uneven", "slanting"])  # fmt: skip
def test_rows_are_read_in_order(notebook, places):
    boxes = [(top, left, top + 50, left + 12) for top, left in places]
    page = bars((300, 500), [*boxes, (280, 100, 284, 104)])  # and a speck
    found, digits = notebook.find_digits(page)
    np.testing.assert_allclose(found * (300, 500, 300, 500), boxes, atol=6)
    assert digits.shape == (len(places), 28, 28, 1)


def test_a_long_line_on_a_page_is_no_digit_and_hides_none(notebook):
    boxes = [(40, left, 90, left + 12) for left in range(60, 400, 60)]
    page = bars((300, 500), [*boxes, (30, 430, 270, 434)])
    np.testing.assert_allclose(notebook.find_digits(page)[0] * (300, 500, 300, 500), boxes, atol=6)


# --- answers -----------------------------------------------------------------------------------


class Stub:
    """Takes a pixel's value for the probability of a 0, the rest for that of a 1."""

    def predict_on_batch(self, images):
        share = np.asarray(images)[:, 14, 14]
        given = np.hstack([share, 1 - share, np.zeros((len(share), 8))])
        return np.tile([0.6, 0.8], (len(share), 1)), given


KNOWN = np.array([[0.6, 0.8]] * 4 + [[1, 0]] + [[-1, 0]] * 20)  # cosines 1, 0.6 and -0.6
IMAGE = np.zeros((28, 28, 1), np.float32)
IMAGE[14, 14:16] = 1


def test_five_views_are_averaged(notebook):
    """The pixel is lit in two of the five views: as it is, and moved to the left."""
    labels, shares = notebook.predict_digits([IMAGE] * 300, notebook.Reader(Stub(), KNOWN))
    np.testing.assert_allclose(shares[:, :2], [[0.4, 0.6]] * 300)
    assert set(labels) == {1}


@pytest.mark.parametrize("limits, answer", [
    ((0.59, 0.41), 1), ((0.61, 0.41), -1), ((0.59, 0.39), -1),
])  # fmt: skip
def test_both_thresholds_count(notebook, limits, answer):
    """The confidence is 0.6, the distance of the fifth nearest 1 - 0.6."""
    reader = notebook.Reader(Stub(), KNOWN, *limits)
    assert notebook.predict_digits([IMAGE], reader)[0].tolist() == [answer]


def test_calibration_error_of_the_run(sample_run):
    """Once more, bin by bin: the gap between mean confidence and share of right answers."""
    space, _ = sample_run
    _, shares = space["predict_digits"](space["x_test"], space["reader"])
    sure, hit = shares.max(axis=1), shares.argmax(axis=1) == space["test_labels"]
    members = [(sure >= i / 15) & (sure < (i + 1) / 15) for i in range(15)] + [sure >= 1]
    gaps = [abs(hit[m].mean() - sure[m].mean()) * m.mean() for m in members if m.any()]
    assert space["ece"] == pytest.approx(sum(gaps), abs=1e-6)


def test_reading_is_shown_step_by_step(notebook, sample_run):
    reader = sample_run[0]["reader"]
    digit = notebook.prepare_digit(GREY)
    free = notebook.Reader(reader.network, reader.known)
    _, (shares,) = notebook.predict_digits([digit], free)
    axes = notebook.plot_reading([GREY], free, ["a 1"]).axes
    assert [axis.get_title() for axis in axes[:3]] == ["a 1", "ink", "28 x 28"]
    shown = [axis.images[0] for axis in axes[:3]]
    np.testing.assert_array_equal(shown[0].get_array(), 255 - GREY)  # and 255 is drawn black
    assert shown[0].get_cmap()(1.0)[:3] == (0, 0, 0) and shown[0].get_clim() == (0, 255)
    np.testing.assert_array_equal(shown[2].get_array(), 255 * digit[..., 0])
    np.testing.assert_allclose([bar.get_height() for bar in axes[3].patches], shares)
    best = int(shares.argmax())
    assert axes[3].get_title() == f"{best}: {100 * shares[best]:.0f} %"
    free.min_confidence = 1.1
    assert notebook.plot_reading([GREY], free).axes[3].get_title() == "not sure"


def test_a_folder_of_labelled_pictures_is_read_by_kind(sample_run, tmp_path):
    space, _ = sample_run
    generator = np.random.default_rng(0)
    images, labels = space["test_images"][:6], space["test_labels"][:6]
    rows = ["path,label,kind"]
    for number, (image, label) in enumerate(zip(images, labels)):
        (tmp_path / f"{number}.jpg").write_bytes(space["photograph"]([image], generator))
        rows.append(f"{number}.jpg,{label},photo")
    (tmp_path / "page.jpg").write_bytes(space["photograph"](images, generator, 3, room=14))
    rows.append("page.jpg,{}{}{}/{}{}{},page".format(*labels))
    (tmp_path / "blank.png").write_bytes(png(Image.new("L", (90, 90), 255)))
    rows.append("blank.png,-1,photo")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    table = read_pictures.table(space, tmp_path)
    digits = [space["prepare_digit"](tmp_path / f"{number}.jpg") for number in range(6)]
    answers, shares = space["predict_digits"](digits, space["reader"])
    right, unsure = shares.argmax(axis=1) == labels, answers == space["NOT_SURE"]
    counted = [6, right.sum(), unsure.sum(), np.sum(~unsure & (answers != labels))]
    for kind in ("photo", "all digits"):
        assert table.loc[kind, ["n", "right", "not sure", "wrong"]].tolist() == counted
    assert table.loc["photo, no digit", ["n", "not sure", "wrong"]].tolist() == [1, 1, 0]
    assert table.loc["page", ["n", "digits"]].tolist() == [1, 6]
    assert table.loc["page", "digits right"] >= 3
    assert read_pictures.common("31415", "3415") == read_pictures.common("3145", "31415") == 4
    assert read_pictures.common("12", "21") == 1


# --- the drawing sheet -------------------------------------------------------------------------


def data_url(picture):
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def test_sheet_answers_within_50_ms(notebook, sample_run):
    sheet = notebook.drawing_sheet(sample_run[0]["reader"], "export default {};")
    picture = PICTURE.resize((280, 280))
    seconds = []
    for number in range(20):
        picture.putpixel((number, 0), 0)  # another drawing each time
        url = data_url(picture)
        started = time.perf_counter()
        sheet.png = url
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 0.05
    assert sheet.answer.count("<progress") == 10
    shown = sheet.answer.partition("base64,")[2].partition("'")[0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))))
    digit = notebook.prepare_digit(picture)[..., 0]
    np.testing.assert_allclose(shown, 255 - 255 * digit, atol=1)
    sheet.png = data_url(Image.new("L", (280, 280), 255))
    assert sheet.answer == "Draw a digit."


def test_sheet_says_when_it_is_not_sure(notebook, sample_run):
    reader = sample_run[0]["reader"]
    for limit, expected in ((0, "<b>7</b>"), (1.1, "<b>not sure</b>")):
        free = notebook.Reader(reader.network, reader.known, limit)
        sheet = notebook.drawing_sheet(free, "export default {};")
        sheet.png = data_url(PICTURE)
        assert expected in sheet.answer


@pytest.mark.parametrize("names, missing", [
    (["numpy", "keras"], ""), (["numpy", "absent"], "absent"),
    (["absent", "keras", "lacking"], "absent, lacking"),
])  # fmt: skip
def test_missing_packages_are_named_in_one_sentence(notebook, capsys, names, missing):
    assert notebook.have(*names) == (not missing)
    sentence = f"Left out: this needs {missing}; pip install them to see it.\n"
    assert capsys.readouterr().out == (sentence if missing else "")
