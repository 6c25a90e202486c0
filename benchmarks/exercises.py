"""Train what the exercises of the notebook's conclusion ask for, on three seeds; record each run.

    .venv/bin/python benchmarks/exercises.py

Finished runs are lines of exercises.jsonl and are not done again. All are judged on the validation
digits. Needs the full MNIST (see the README). Exercise 2 is answered by peers.jsonl.
"""

import functools
import itertools
import json
import sys
from pathlib import Path

import numpy as np

RECORD = Path(__file__).with_name("exercises.jsonl")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402

RATES = (0.004, 0.016, 0.064, 0.256)
OFTEN = (7, 8)  # the digits of exercise 4, shown twice: those that are misread most


def without_normalization(nb):
    layers = [layer for layer in nb.build_cnn().layers if "normalization" not in layer.name]
    return nb.keras.Sequential([nb.keras.Input((28, 28, 1)), *layers])


def trainings(nb, x, y):
    """Return name: what `train_and_score` needs, but for the seed and the validation digits."""
    twice = np.concatenate([np.arange(len(y)), np.flatnonzero(np.isin(y, OFTEN))])
    table = {"default": (nb.build_cnn, x, y, 8, "all"), "1": (nb.build_cnn, x, y, 8, "none")}
    bare = functools.partial(without_normalization, nb)
    for name, build in (("3 with", nb.build_cnn), ("3 without", bare)):
        for rate in RATES:
            table[f"{name}, {rate}"] = build, x, y, 1, "all", 128, rate
    table["4"] = nb.build_cnn, x[twice], y[twice], 8, "all"
    table["5"] = functools.partial(nb.build_cnn, filters=24), x, y, 5, "geometric"
    return table


def main():
    nb = cells.load_definitions()
    space, _ = cells.run(until="baseline = keras.Sequential", DATA=cells.DATA)
    scoring = nb.make_evaluation_dataset(space["x_val"], space["y_val"])
    done = [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.exists() else []
    table = trainings(nb, space["x_train"], space["y_train"])
    for seed, name in itertools.product((1, 2, 3), table):
        if (name, seed) in [(row["exercise"], row["seed"]) for row in done]:
            continue
        build, x, y, *settings = table[name]
        model, record = nb.train_and_score(build, x, y, seed, scoring, *settings)
        answers = model.predict(scoring, verbose=0).argmax(axis=1)
        wrong = space["y_val"][answers != space["y_val"]]
        record |= {"errors": np.bincount(wrong, minlength=10).tolist()}  # by true digit
        record |= {"training_loss": round(model.history.history["loss"][-1], 5)}
        line = json.dumps({"exercise": name, "seed": seed} | record)
        print(line, flush=True)
        with open(RECORD, "a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
