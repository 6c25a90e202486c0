"""Read a folder of labelled pictures with the notebook's reader; print a table by kind.

    .venv/bin/python benchmarks/read_pictures.py FOLDER [--changed KIND]

FOLDER/labels.csv has the columns path, label and kind. A label is a digit, -1 for what is no digit,
or, for a page, its digits by rows ("314/592"). With --changed, the digits of one kind are read
after each change of tests/changes.py. Trains the notebook's network first, which needs the full
MNIST (see the README).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402
import changes  # noqa: E402


def read_digits(nb, reader, pictures, labels):
    """Return the number of pictures and the shares in % that the notebook prints, too."""
    digits = []
    for picture in pictures:
        try:
            digits.append(nb["prepare_digit"](picture))
        except nb["DigitImageError"] as error:
            print(f"{picture if isinstance(picture, Path) else ''}: {error}")
            digits.append(np.zeros((28, 28, 1), np.float32))  # is refused
    answers, shares = nb["predict_digits"](digits, reader)
    unsure = answers == nb["NOT_SURE"]
    return {
        "n": len(labels),
        "best guess right": 100 * np.mean(shares.argmax(axis=1) == labels),
        "not sure": 100 * np.mean(unsure),
        "answered wrongly": 100 * np.mean(~unsure & (answers != labels)),
    }


def read_pages(nb, reader, paths, labels):
    """Return the number of pages and of those whose best guesses are right, digit by digit."""
    exact = []
    for path, label in zip(paths, labels):
        _, digits = nb["find_digits"](path)
        shares = nb["predict_digits"](digits, reader)[1]
        guesses = "".join(map(str, shares.argmax(axis=1)))
        exact.append(guesses == label.replace("/", ""))
        print(f"{path}: {guesses}{'' if exact[-1] else ', should be ' + label}")
    return {"n": len(paths), "pages read exactly": np.sum(exact)}


def table(nb, reader, folder):
    """Return the table by kind for the pictures in `folder`, a DataFrame."""
    listed = pd.read_csv(folder / "labels.csv", dtype=str)
    rows = {}
    for kind, group in listed.groupby("kind", sort=False):
        paths = [folder / path for path in group["path"]]
        pages = group["label"].str.len().max() > 2
        labels = list(group["label"]) if pages else group["label"].astype(int).to_numpy()
        rows[kind] = (read_pages if pages else read_digits)(nb, reader, paths, labels)
    return pd.DataFrame(rows).T.round(1)


def table_of_changes(nb, reader, folder, kind):
    """Return the table by change for the digits of `kind` in `folder`, a DataFrame."""
    listed = pd.read_csv(folder / "labels.csv", dtype=str).query("kind == @kind")
    pictures = [np.asarray(nb["open_image"](folder / p).convert("L")) for p in listed["path"]]
    labels, rows = listed["label"].astype(int).to_numpy(), {}
    for name in changes.CHANGES:
        changed = [changes.change(picture, name) for picture in pictures]
        rows[name] = read_digits(nb, reader, changed, labels)
    return pd.DataFrame(rows).T.round(1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--changed", metavar="KIND")
    options = parser.parse_args()
    space, _ = cells.run(until="EXAMPLES = Path", DATA=cells.DATA)
    asked = vars(cells.load_definitions()), space["reader"], options.folder
    rows = table_of_changes(*asked, options.changed) if options.changed else table(*asked)
    print(rows.to_string(na_rep=""))


if __name__ == "__main__":
    main()
