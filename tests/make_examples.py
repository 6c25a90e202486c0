"""Draw the pictures in examples/: digits and letters by pen strokes, on paper, board and screen.

    .venv/bin/python tests/make_examples.py [FOLDER]

Every picture is made here from a few control points; none is copied from anywhere. A name tells
what is in it: `digit-3-marker-21.png`, `letter-A-marker.png`, `page-3141-5926.jpg` (two rows).
"""

import sys
from pathlib import Path

import changes
import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import splev, splprep

FOLDER = Path(__file__).resolve().parents[1] / "examples"

# Strokes through control points (x to the right, y down, both from 0 to 1); a stroke that starts
# with "line" has corners, the others are smooth.
GLYPHS = {
    "0": [[(0.52, 0), (0.15, 0.25), (0.12, 0.7), (0.45, 1), (0.85, 0.72), (0.85, 0.25), (0.5, 0)]],
    "1": [["line", (0.5, 0), (0.48, 1)]],
    "1 flag": [["line", (0.25, 0.25), (0.55, 0), (0.52, 1)]],
    "2": [
        [(0.15, 0.25), (0.3, 0.03), (0.65, 0.02), (0.8, 0.28), (0.55, 0.62), (0.12, 0.98)],
        ["line", (0.12, 0.98), (0.9, 0.96)],
    ],
    "2 loop": [
        [(0.15, 0.2), (0.5, 0), (0.8, 0.25), (0.5, 0.7), (0.15, 0.95), (0.12, 0.78), (0.4, 0.8),
         (0.9, 0.98)],
    ],
    "3": [
        [(0.18, 0.12), (0.5, 0), (0.8, 0.2), (0.68, 0.42), (0.4, 0.48)],
        [(0.4, 0.48), (0.75, 0.55), (0.85, 0.8), (0.5, 1), (0.12, 0.88)],
    ],
    "4": [["line", (0.3, 0.02), (0.12, 0.58), (0.88, 0.55)], ["line", (0.68, 0.25), (0.62, 1)]],
    "4 closed": [["line", (0.62, 1), (0.66, 0), (0.1, 0.66), (0.92, 0.64)]],
    "5": [
        ["line", (0.8, 0.02), (0.25, 0.04), (0.2, 0.45)],
        [(0.2, 0.45), (0.55, 0.38), (0.84, 0.62), (0.68, 0.92), (0.35, 1), (0.1, 0.88)],
    ],
    "5 hat": [
        [(0.28, 0.08), (0.22, 0.44), (0.6, 0.4), (0.85, 0.66), (0.6, 0.97), (0.12, 0.92)],
        ["line", (0.3, 0.05), (0.85, 0)],
    ],
    "6": [
        [(0.7, 0), (0.35, 0.25), (0.15, 0.65), (0.28, 0.95), (0.6, 1), (0.82, 0.78), (0.62, 0.55),
         (0.3, 0.6), (0.18, 0.76)],
    ],
    "7": [["line", (0.12, 0.06), (0.88, 0.02), (0.42, 1)]],
    "7 bar": [["line", (0.12, 0.06), (0.86, 0.03), (0.38, 1)], ["line", (0.3, 0.5), (0.78, 0.48)]],
    "8": [
        [(0.75, 0.14), (0.48, 0), (0.22, 0.18), (0.42, 0.42), (0.75, 0.66), (0.72, 0.92),
         (0.42, 1), (0.17, 0.84), (0.3, 0.6), (0.68, 0.36), (0.77, 0.16)],
    ],
    "9": [
        [(0.8, 0.2), (0.5, 0), (0.2, 0.2), (0.3, 0.46), (0.6, 0.48), (0.8, 0.2)],
        ["line", (0.81, 0.15), (0.68, 1)],
    ],
    "9 curl": [
        [(0.78, 0.2), (0.5, 0), (0.2, 0.2), (0.32, 0.46), (0.65, 0.42), (0.8, 0.15)],
        [(0.8, 0.15), (0.84, 0.6), (0.65, 0.97), (0.25, 0.92)],
    ],
    "A": [["line", (0.1, 1), (0.5, 0), (0.9, 1)], ["line", (0.25, 0.62), (0.75, 0.62)]],
    "C": [[(0.85, 0.15), (0.5, 0), (0.15, 0.3), (0.15, 0.7), (0.5, 1), (0.88, 0.85)]],
    "E": [
        ["line", (0.85, 0), (0.2, 0), (0.2, 1), (0.85, 1)], ["line", (0.2, 0.5), (0.7, 0.5)],
    ],
    "F": [["line", (0.85, 0), (0.2, 0), (0.2, 1)], ["line", (0.2, 0.48), (0.7, 0.48)]],
    "H": [
        ["line", (0.15, 0), (0.15, 1)], ["line", (0.85, 0), (0.85, 1)],
        ["line", (0.15, 0.5), (0.85, 0.5)],
    ],
    "K": [["line", (0.2, 0), (0.2, 1)], ["line", (0.85, 0), (0.2, 0.55), (0.9, 1)]],
    "M": [["line", (0.08, 1), (0.2, 0), (0.5, 0.7), (0.8, 0), (0.92, 1)]],
    "N": [["line", (0.15, 1), (0.15, 0), (0.85, 1), (0.85, 0)]],
    "P": [["line", (0.2, 1), (0.2, 0)], [(0.2, 0), (0.75, 0.05), (0.78, 0.45), (0.2, 0.52)]],
    "R": [
        ["line", (0.2, 1), (0.2, 0)], [(0.2, 0), (0.75, 0.05), (0.75, 0.4), (0.2, 0.5)],
        ["line", (0.4, 0.5), (0.9, 1)],
    ],
    "T": [["line", (0.08, 0.02), (0.92, 0.02)], ["line", (0.5, 0.02), (0.5, 1)]],
    "U": [[(0.15, 0), (0.16, 0.7), (0.5, 1), (0.84, 0.7), (0.85, 0)]],
    "V": [["line", (0.1, 0), (0.5, 1), (0.9, 0)]],
    "W": [["line", (0.04, 0), (0.25, 1), (0.5, 0.35), (0.75, 1), (0.96, 0)]],
    "X": [["line", (0.12, 0), (0.88, 1)], ["line", (0.88, 0), (0.12, 1)]],
    "Y": [["line", (0.12, 0), (0.5, 0.5), (0.88, 0)], ["line", (0.5, 0.5), (0.5, 1)]],
}  # fmt: skip

# style: paper colour, ink colour, pen width (share of the digit's height), picture size, light
# falling off across the paper, noise, ruled lines, mode of the file
STYLES = {
    "marker": ((255, 255, 255), (20, 20, 25), 0.11, (240, 240), 0.0, 0.0, False, "L"),
    "ballpoint": ((240, 238, 230), (30, 50, 140), 0.035, (480, 360), 0.25, 0.02, False, "RGB"),
    "ruled": ((250, 250, 245), (25, 30, 60), 0.05, (420, 420), 0.15, 0.015, True, "RGB"),
    "chalk": ((35, 60, 50), (225, 225, 215), 0.08, (360, 300), 0.3, 0.03, False, "RGB"),
    "shade": ((200, 190, 170), (60, 40, 35), 0.07, (400, 300), 0.55, 0.025, False, "RGB"),
    "screen": ((18, 18, 20), (90, 200, 255), 0.13, (160, 200), 0.0, 0.0, False, "RGB"),
    "sticker": (None, (150, 20, 60), 0.1, (200, 200), 0.0, 0.0, False, "RGBA"),
}


def trace(points):
    """Return points (n, 2) along one stroke."""
    if points[0] == "line":
        points = np.array(points[1:], float)
        parts = [np.linspace(a, b, 30) for a, b in zip(points, points[1:])]
        return np.concatenate(parts)
    curve, _ = splprep(np.array(points, float).T, s=0)
    return np.stack(splev(np.linspace(0, 1, 120), curve), axis=1)


def draw(canvas, strokes, center, height, width, rng, slant=0.2, turn=0.15):
    """Draw `strokes` around `center` on `canvas` (an image of mode L), `height` pixels high."""
    shear, angle = rng.uniform(-slant, slant), rng.uniform(-turn, turn)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turned @ np.array([[rng.uniform(0.6, 0.85), -shear], [0, 1]]) * height
    pen = ImageDraw.Draw(canvas)
    radius = width * height / 2
    for stroke in strokes:
        line = trace(stroke)
        wobble = np.cumsum(rng.normal(0, 0.0015, line.shape), axis=0)
        for x, y in (line - 0.5 + wobble) @ matrix.T + center:
            r = radius * rng.uniform(0.93, 1.07)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)


def develop(ink, style, rng):
    """Return the picture of `ink` (mode L, 0 to 255) in `style`, as a camera might see it."""
    paper, color, _, size, shade, noise, ruled, mode = STYLES[style]
    ink = ink.resize(size, Image.Resampling.LANCZOS)
    if mode == "RGBA":
        picture = Image.new("RGBA", size, (*color, 0))
        picture.putalpha(ink)
        return picture
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    picture = np.ones((size[1], size[0], 3)) * np.array(paper)
    if ruled:
        picture[np.mgrid[: size[1]] % 60 < 2] = (150, 185, 220)
    cover = np.asarray(ink)[..., None] / 255 * rng.uniform(0.9, 1)
    picture = picture * (1 - cover) + np.array(color) * cover
    direction = rng.uniform(0, 2 * np.pi)
    light = 1 - shade * (0.5 + np.cos(direction) * (x - 0.5) + np.sin(direction) * (y - 0.5))
    picture = picture * light[..., None] + rng.normal(0, 255 * noise, picture.shape)
    picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return picture.convert("L") if mode == "L" else picture


def draw_one(glyph, style, rng):
    """Return a picture of one glyph, somewhere in the frame."""
    width, height = (2 * n for n in STYLES[style][3])
    ink = Image.new("L", (width, height))
    tall = rng.uniform(0.4, 0.7) * min(width, height)
    free = np.array([width, height]) / 2 - 0.55 * tall
    center = np.array([width, height]) / 2 + rng.uniform(-0.7, 0.7, 2) * free
    draw(ink, GLYPHS[glyph], center, tall, STYLES[style][2], rng)
    return develop(ink, style, rng)


def draw_page(rows, style, rng, slope=0.0, boxes=False):
    """Return a picture of `rows` of digits, which may slant or stand in the boxes of a form."""
    width, height = (2 * n for n in STYLES[style][3])
    ink = Image.new("L", (width, height))
    for row, text in enumerate(rows):
        for column, digit in enumerate(text):
            cell = np.array([width / len(text), height / len(rows)])
            center = cell * (column + 0.5, row + 0.5) + rng.uniform(-0.05, 0.05, 2) * cell
            center[1] += slope * (center[0] - width / 2)
            tall = 0.6 * min(cell) * rng.uniform(0.8, 1.1)
            draw(ink, GLYPHS[digit], center, tall, 1.5 * STYLES[style][2], rng, 0.15, 0.08)
            if boxes:
                left, top = cell * (column + 0.06, row + 0.06)
                box = left, top, *(cell * (column + 0.94, row + 0.94))
                ImageDraw.Draw(ink).rectangle(box, outline=255, width=6)
    return develop(ink, style, rng)


def save(picture, path, turned=False):
    """Save as JPEG if in colour, else as PNG.

    A JPEG is stored lying on its side, with the EXIF orientation that says so, if `turned`.
    """
    if turned and picture.mode == "RGB":
        exif = Image.Exif()
        exif[0x0112] = 6  # "rotate by 90 degrees to see it upright"
        side = picture.transpose(Image.Transpose.ROTATE_90)
        side.save(path.with_suffix(".jpg"), quality=85, exif=exif)
    elif picture.mode == "RGB":
        picture.save(path.with_suffix(".jpg"), quality=85)
    else:
        picture.save(path.with_suffix(".png"), optimize=True)


def main(folder=FOLDER):
    """Draw all pictures into `folder`."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(28)
    styles = list(STYLES)
    glyphs = [name for name in GLYPHS if name[0].isdigit()]
    for number, glyph in enumerate((glyphs * 2)[:24]):
        style = styles[number % len(styles)]
        picture = draw_one(glyph, style, rng)
        save(picture, folder / f"digit-{glyph[0]}-{style}-{number:02}", turned=number % 11 == 5)
    for number, glyph, kind in ((24, "1 flag", "thick cell"), (25, "9 curl", "sheet on a desk")):
        picture = changes.change(np.asarray(draw_one(glyph, "marker", rng)), kind)
        name = f"digit-{glyph[0]}-{kind.split()[-1]}-{number}"
        save(Image.fromarray(picture).convert("RGB"), folder / name)
    for letter in "ACEFHKMNPR":
        save(draw_one(letter, "marker", rng), folder / f"letter-{letter}-marker")
    save(draw_page(("3141", "5926"), "shade", rng), folder / "page-3141-5926")
    rows = "27182", "81828", "45904"
    save(draw_page(rows, "ballpoint", rng), folder / "page-27182-81828-45904")
    rows = "16180", "33988"
    save(draw_page(rows, "ruled", rng, slope=0.1), folder / "page-16180-33988")
    save(draw_page(("4669", "2016"), "shade", rng, boxes=True), folder / "page-4669-2016")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
