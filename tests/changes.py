"""What happens to pictures of digits on their way to a program: one function, a row each."""

import numpy as np
from PIL import Image
from scipy import ndimage


def paper(grey):
    return float(np.median(grey))


def draw(grey, where, ink):
    """Return `grey` (h, w) with lines at `where`: `ink` is how much of black they have."""
    level = paper(grey)
    line = level * (1 - ink) if level > 128 else level + (255 - level) * ink
    return np.where(where, (np.minimum if line < level else np.maximum)(grey, line), grey)


def frame(grey, width, inset=0.0):
    """A dark frame line of `width`, `inset` from the border, both as shares of the width."""
    height, across = grey.shape
    n, edge = max(1, round(width * across)), round(inset * across)
    where = np.zeros(grey.shape, bool)
    where[edge : height - edge, edge : across - edge] = True
    where[edge + n : height - edge - n, edge + n : across - edge - n] = False
    return draw(grey, where, 0.8)


def ruling(grey, ink, spaces, squared=False, slope=0.0):
    y, x = np.indices(grey.shape)
    space, width = grey.shape[0] / spaces, max(1, grey.shape[0] // 120)
    where = (y + slope * x + space / 2) % space < width
    if squared:
        where |= (x + space / 2) % space < width
    return draw(grey, where, ink)


def desk(grey, generator):
    """The picture as a sheet that lies on a darker desk, which is seen on all sides."""
    edge = round(0.2 * grey.shape[1])
    whole = np.pad(grey, edge, constant_values=-1)
    grain = generator.normal(0.45 * paper(grey), 4, whole.shape)
    return np.where(whole < 0, grain, whole)


def shadow(grey, light, edge, softness):
    """Only a share `light` of the light beyond `edge`, a share of the width."""
    x = (np.arange(grey.shape[1]) / grey.shape[1] - edge) / softness
    return grey * (1 - (1 - light) / (1 + np.exp(-np.clip(x, -50, 50))))


def small(grey, share):
    """The picture in the middle of a larger sheet, of which it is a `share`."""
    height, width = (round(n / share) for n in grey.shape)
    sheet = Image.new("L", (width, height), round(paper(grey)))
    picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    sheet.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    sheet.thumbnail((2000, 2000))
    return np.asarray(sheet, float)


def resized(grey, factor):
    picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return np.asarray(picture.resize([round(factor * n) for n in picture.size]), float)


def circle(grey):
    y, x = (2 * (i + 0.5) / n - 1 for i, n in zip(np.indices(grey.shape), grey.shape))
    return draw(grey, np.abs(np.hypot(x, y) - 0.93) < 0.03, 0.8)


def turned(grey, degrees):
    return ndimage.rotate(grey, degrees, reshape=False, order=1, mode="nearest")


CHANGES = {
    "as it is": lambda grey, _: grey,
    "sheet on a desk": desk,
    "frame 1 %": lambda grey, _: frame(grey, 0.01),
    "frame 2 %": lambda grey, _: frame(grey, 0.02),
    "frame 4 %": lambda grey, _: frame(grey, 0.04),
    "thin cell": lambda grey, _: frame(grey, 0.01, 0.05),
    "thick cell": lambda grey, _: frame(grey, 0.025, 0.05),
    "circle": lambda grey, _: circle(grey),
    "ruled, pale": lambda grey, _: ruling(grey, 0.2, 7),
    "ruled, dark": lambda grey, _: ruling(grey, 0.6, 7),
    "ruled, slanting": lambda grey, _: ruling(grey, 0.6, 7, slope=0.04),
    "squared, blue": lambda grey, _: ruling(grey, 0.35, 10, squared=True),
    "squared, dark": lambda grey, _: ruling(grey, 0.6, 10, squared=True),
    "hard shadow 0.6": lambda grey, _: shadow(grey, 0.6, 0.5, 0.001),
    "hard shadow 0.4": lambda grey, _: shadow(grey, 0.4, 0.5, 0.001),
    "shadow beside": lambda grey, _: shadow(grey, 0.5, 0.9, 0.001),
    "soft shadow": lambda grey, _: shadow(grey, 0.4, 0.5, 0.06),
    "contrast 15 %": lambda grey, _: paper(grey) + 0.15 * (grey - paper(grey)),
    "turned by 12": lambda grey, _: turned(grey, 12),
    "turned by -12": lambda grey, _: turned(grey, -12),
    "a fifth": lambda grey, _: small(grey, 0.2),
    "a tenth": lambda grey, _: small(grey, 0.1),
    "smaller": lambda grey, _: resized(grey, 0.5),
    "larger": lambda grey, _: resized(grey, 4),
    "moved": lambda grey, _: np.pad(grey, ((0, 90), (60, 0)), mode="edge"),
    "light from one side": lambda grey, _: grey * np.linspace(0.5, 1, grey.shape[1]),
    "half a neighbour": lambda grey, _: np.hstack([grey[:, grey.shape[1] // 2 :], grey]),
    "noise": lambda grey, generator: grey + generator.normal(0, 12, grey.shape),
    "inverted": lambda grey, _: 255 - grey,
}


def change(grey, name, seed=0):
    """Return `grey` (h, w), uint8, after the change `name` of `CHANGES`, as uint8."""
    changed = CHANGES[name](grey.astype(float), np.random.default_rng(seed))
    return np.clip(changed, 0, 255).astype(np.uint8)
