"""From any picture to an MNIST digit, and the answer 'not sure'."""

import base64
import io

import cells
import numpy as np
import pytest
import read_pictures
from PIL import Image
from sklearn.neighbors import NearestNeighbors


def bars(shape, boxes, paper=235, ink=30):
    """Return a grey picture of upright bars, each of `boxes` (top, left, bottom, right)."""
    picture = np.full(shape, paper, np.uint8)
    for top, left, bottom, right in boxes:
        picture[top:bottom, left:right] = ink
    return picture


def likeness(one, two):
    return np.corrcoef(np.ravel(one), np.ravel(two))[0, 1]


STROKES = (40, 40, 80, 140), (80, 120, 240, 140)  # those of a 7


def test_digit_is_framed_as_in_mnist(notebook):
    """A 7 of 200 x 100: most ink lies at the top, so the box hangs lower than the middle."""
    digit = notebook.frame_digit(bars((300, 200), STROKES, paper=0, ink=255))
    assert (digit.shape, digit.dtype) == ((28, 28, 1), np.float32)
    assert (digit.min(), digit.max()) == (0, 1)
    rows, columns = np.nonzero(digit[..., 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 10)
    assert notebook.ndimage.center_of_mass(digit[..., 0]) == pytest.approx((14, 14), abs=0.51)
    assert rows.min() > 4


def test_the_box_stays_in_the_frame(notebook):
    """All ink but a pixel is at the top; the box would hang out of the frame below."""
    ink = np.zeros((100, 100))
    ink[:5], ink[99, 50] = 1, 0.2
    rows, _ = np.nonzero(notebook.frame_digit(ink)[..., 0] > 0.5)
    assert rows.min() == 8  # of 28, and the box has 20


def test_mnist_comes_out_nearly_as_it_went_in(notebook, sample_run):
    """As it is, photographed, and from a page."""
    images, generator = sample_run[0]["train_images"][:50], np.random.default_rng(0)
    files = [notebook.photograph(image, generator) for image in images]
    page = notebook.photograph(np.hstack(np.pad(images[:6], ((0, 0), (8, 8), (8, 8)))), generator)
    ways = [map(notebook.prepare_digit, pictures) for pictures in (images, files)]
    for digits in (*ways, notebook.find_digits(page)):
        assert np.median(list(map(likeness, images, digits))) > 0.85


GREY = bars((300, 200), STROKES)
LIGHTS = {  # what may happen to a picture without changing the digit
    "light on dark": 255 - GREY,
    "faint": GREY // 8 + 100,
    "light from one side": GREY * np.linspace(1, 0.5, 200),
    "in the shade, sun beside": np.pad(GREY, ((0, 0), (40, 0)), constant_values=235)
    * np.where(np.arange(240) < 20, 1, 0.45),
    "far": np.pad(GREY, 150, constant_values=235),
}


@pytest.mark.parametrize("name", LIGHTS)
def test_light_and_place_do_not_matter(notebook, name):
    assert likeness(notebook.prepare_digit(LIGHTS[name]), notebook.prepare_digit(GREY)) > 0.95


def test_specks_and_what_runs_off_are_left_out_and_the_hat_of_a_5_is_not(notebook):
    ink = np.zeros((100, 100))
    ink[20:30, 30:70] = ink[40:90, 30:50] = 1
    expected = ink.copy()
    ink[3:5, 95:97] = ink[60:, 80:90] = 1
    np.testing.assert_array_equal(notebook.keep_digit(ink), expected)
    expected[:40] = 0
    expected[40:, 30:50] = 1  # runs off, but there is nothing else
    np.testing.assert_array_equal(notebook.keep_digit(expected), expected)


PICTURE = Image.fromarray(GREY)
COLOR = np.dstack([GREY] * 3)


def png(picture):
    picture.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


INPUTS = {
    "bytes of a file": png(PICTURE),
    "open file": io.BytesIO(png(PICTURE)),
    "RGB": COLOR,
    "(h, w, 1)": GREY[..., None],
    "floats to 255": GREY.astype(float),
    "floats to 1": GREY / 255,
    "palette": PICTURE.convert("P"),
    "dark on nothing": np.dstack([0 * COLOR, 255 - GREY]),
    "white on nothing": np.dstack([0 * COLOR + 255, 255 - GREY]),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_kinds_of_picture_agree(notebook, kind):
    assert likeness(notebook.prepare_digit(INPUTS[kind]), notebook.prepare_digit(GREY)) > 0.97


def test_a_phones_photograph_is_upright_and_reduced_as_it_is_opened(notebook, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    photo = PICTURE.transpose(Image.Transpose.ROTATE_90).resize((4000, 2667))
    photo.save(tmp_path / "photo.jpg", exif=exif)
    path = str(tmp_path / "photo.jpg")
    assert notebook.to_grey(path).size == (683, 1024)
    assert likeness(notebook.prepare_digit(path), notebook.prepare_digit(GREY)) > 0.95


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
    assert words in message and "\n" not in message and message.endswith(".")


@pytest.mark.parametrize("places", [
    [(20, 60), (1, 200), (30, 330), (190, 90), (200, 260)],  # uneven, and near the edge
    # slanting: the last of the first row is lower than the first of the second
    [(top + 15 * i, left + 60 * i) for top, left in ((20, 30), (110, 40)) for i in range(6)],
], ids=["uneven", "slanting"])  # fmt: skip
def test_rows_are_read_in_order(notebook, places):
    boxes = [(top, left, top + 50, left + 8 + 3 * i) for i, (top, left) in enumerate(places)]
    others = (280, 100, 284, 104), (5, 470, 270, 474)  # a speck and a long line
    digits = notebook.find_digits(bars((300, 500), [*boxes, *others]))
    assert digits.shape == (len(places), 28, 28, 1)
    assert np.diff(digits.sum(axis=(1, 2, 3))).min() > 0  # each bar is wider than the one before


class Stub:
    """Takes a pixel's value for the probability of a 0, the rest for that of a 1."""

    def predict_on_batch(self, images):
        share = np.asarray(images)[:, 14, 14]
        given = np.hstack([share, 1 - share, np.zeros((len(share), 8))])
        return np.tile([0.6, 0.8], (len(share), 1)), given


KNOWN = np.array([[1, 0]] + [[-1, 0]] * 20)
NEAREST = NearestNeighbors(n_neighbors=1).fit(KNOWN)  # that of [0.6, 0.8] is 0.894 away
IMAGE = np.zeros((28, 28, 1), np.float32)
IMAGE[14, 14:16] = 1


def test_five_views_are_averaged(notebook):
    """The pixel is lit in two of the five views: as it is, and moved to the left."""
    labels, shares = notebook.predict_digits([IMAGE] * 300, (Stub(), NEAREST, 0, 2))
    np.testing.assert_allclose(shares[:, :2], [[0.4, 0.6]] * 300)
    assert set(labels) == {1}


def test_both_thresholds_count(notebook):
    """The confidence is 0.6."""
    for *limits, answer in ((0.59, 0.9, 1), (0.61, 0.9, -1), (0.59, 0.89, -1)):
        assert notebook.predict_digits([IMAGE], (Stub(), NEAREST, *limits))[0] == [answer]


def test_record_counts_what_was_read(sample_run, tmp_path):
    """Marks of `benchmarks/read_pictures.py`, for pictures whose answers are known."""
    space = {**sample_run[0], "predict_digits": lambda digits, reader: next(answers)}
    rows = ["path,label,kind", "a.png,7,photo", "a.png,1,photo", "a.png,7,photo"]
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "a.png,-1,photo", "a.png,17/1,page"]))
    PICTURE.save(tmp_path / "a.png")
    shares = np.eye(10)
    known = (7, [7]), (7, [7]), (-1, [7]), (-1, [3]), (1, [1, 1, 7])
    answers = iter([([label], shares[guesses]) for label, guesses in known])
    table = read_pictures.table(space, tmp_path)
    for kind in ("photo", "all digits"):
        assert table.loc[kind, ["n", "right", "not sure", "wrong"]].tolist() == [3, 2, 1, 1]
    assert table.loc["photo, no digit", ["n", "not sure", "wrong"]].tolist() == [1, 1, 0]
    assert table.loc["page", ["n", "digits", "digits right", "exact"]].tolist() == [1, 3, 2, 0]


def test_sheet_shows_what_the_network_gets_and_its_answer(notebook, sample_run):
    network, nearest, *_ = sample_run[0]["reader"]
    for limit, expected in ((0, "<b>7</b>"), (1.1, "<b>not sure</b>")):
        sheet = notebook.drawing_sheet((network, nearest, limit, 2), "export default {};")
        sheet.png = "data:image/png;base64," + base64.b64encode(png(PICTURE)).decode()
        assert expected in sheet.answer and sheet.answer.count("<progress") == 10
    shown = sheet.answer.partition("base64,")[2].partition("'")[0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))).convert("L"))
    np.testing.assert_allclose(
        shown[::5, ::5], 255 - 255 * notebook.prepare_digit(PICTURE)[..., 0], atol=2
    )
    sheet.png = "," + base64.b64encode(png(Image.new("L", (280, 280), 255))).decode()
    assert sheet.answer == "Draw a digit."


def test_missing_packages_are_named_in_one_sentence(notebook, capsys):
    assert notebook.have("numpy", "keras") and not capsys.readouterr().out
    assert not notebook.have("absent", "keras", "lacking")
    sentence = "Left out: this needs absent, lacking; pip install them to see it.\n"
    assert capsys.readouterr().out == sentence
