"""Read a folder of labelled pictures with the notebook's reader; print a table by kind.

    .venv/bin/python benchmarks/read_pictures.py FOLDER [--model FILE.keras] [--write]

FOLDER/labels.csv has the columns path, label and kind. A label is a digit, -1 for what is no digit,
or, for a page, its digits by rows ("314/592"). Without --model the notebook's network is trained
first; both need the full MNIST (see the README). --write records the table in pictures.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).with_name("pictures.json")
NEEDED = "= load_mnist(DATA)", "= train_test_split(", "reader = network,"  # cells of the notebook
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402


def make_space(file):
    """Return the notebook's namespace with its reader; `file` holds a trained model, or is None."""
    if file is None:
        return cells.run(until="MY_PAGE = ", DATA=cells.DATA)[0]
    space = vars(cells.load_definitions())
    space |= {"DATA": cells.DATA, "model": space["keras"].models.load_model(file)}
    for index, cell in cells.code_cells():
        if any(text in cell.source for text in NEEDED):
            cells.run_cell(index, cell, space)
    return space


def read_picture(nb, path, label):
    """Return a dict of what came out for one picture; `label` as in labels.csv."""
    started = time.perf_counter()
    guesses, answer = "", nb["NOT_SURE"]
    try:
        page = len(label) > 2
        digits = nb["find_digits"](path) if page else [nb["prepare_digit"](path)]
        answers, shares = nb["predict_digits"](digits, nb["reader"])
        guesses, answer = "".join(map(str, shares.argmax(axis=1))), answers[0]
    except nb["DigitImageError"] as error:
        print(f"{path}: {error}")
    row = {"n": 1, "ms": 1000 * (time.perf_counter() - started)}
    if page:
        text = label.replace("/", "")
        blocks = SequenceMatcher(None, guesses, text, autojunk=False).get_matching_blocks()
        row |= {"exact": int(guesses == text), "digits": len(text)}
        return {**row, "digits right": sum(block.size for block in blocks)}
    unsure = answer == nb["NOT_SURE"]
    row |= {"right": int(guesses == label), "not sure": int(unsure)}
    return {**row, "wrong": int(not unsure and str(answer) != label)}


def table(nb, folder):
    """Return a table by kind for the pictures in `folder`: counts, and the median time in ms."""
    rows = []
    for path, label, kind in pd.read_csv(folder / "labels.csv", dtype=str).itertuples(index=False):
        whole = "all pages" if len(label) > 2 else "all digits" if label != "-1" else "no digit"
        row = read_picture(nb, folder / path, label)
        kinds = f"{kind}, no digit" if label == "-1" else kind, whole
        rows += [{"kind": name, **row} for name in kinds]
    groups = pd.DataFrame(rows).groupby("kind", sort=False)
    return groups.sum(min_count=1).assign(ms=groups["ms"].median().round(1)).convert_dtypes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, metavar="FILE.keras")
    parser.add_argument("--write", action="store_true", help=f"record the table in {RESULTS.name}")
    options = parser.parse_args()
    rows = table(make_space(options.model), options.folder)
    print(rows.to_string(na_rep=""))
    if options.write:
        record = {"machine": f"{os.cpu_count()} cores, {platform.machine()}"}
        record["kinds"] = {kind: row.dropna().to_dict() for kind, row in rows.iterrows()}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
