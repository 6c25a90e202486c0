"""Train the notebook's network and its peers in turn; record each run.

    .venv/bin/python benchmarks/peers.py                    all that RUNS asks for
    .venv/bin/python benchmarks/peers.py "LeNet-5" 15 4     one: name, epochs, seed

All learn from the notebook's 54,000 training digits, on one machine, with its threads and
deterministic operations. Each run has a process of its own, and meets the validation and test
digits once, at its end. Finished runs are lines of peers.jsonl. Needs the full MNIST (see README).
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RECORD = Path(__file__).with_name("peers.jsonl")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402


def network(nb, *stack):
    """Return a network that takes the images through the layers in `stack` to ten probabilities."""
    answer = nb.layers.Dense(10, activation="softmax")
    return nb.keras.Sequential([nb.keras.Input((28, 28, 1)), *stack, answer])


def convnet(nb):
    """The Keras documentation's Simple MNIST convnet: model, optimizer, settings of `fit`."""
    layers = nb.layers
    stack = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D()]
    stack += [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D()]
    model = network(nb, *stack, layers.Flatten(), layers.Dropout(0.5))
    return model, "adam", {"batch_size": 128}


def pytorch_example(nb):
    """The recipe of PyTorch's examples/mnist, built in Keras."""
    keras, layers = nb.keras, nb.layers
    stack = [layers.Normalization(mean=0.1307, variance=0.3081**2)]
    stack += [layers.Conv2D(width, 3, activation="relu") for width in (32, 64)]
    stack += [layers.MaxPooling2D(), layers.Dropout(0.25), layers.Flatten()]
    stack += [layers.Dense(128, activation="relu"), layers.Dropout(0.5)]
    decay = keras.callbacks.LearningRateScheduler(lambda epoch: 0.7**epoch)
    optimizer = keras.optimizers.Adadelta(1.0, rho=0.9, epsilon=1e-6)
    return network(nb, *stack), optimizer, {"batch_size": 64, "callbacks": [decay]}


def deotte(nb):
    """One network of C. Deotte, 25 million images! (Kaggle, 2018)."""
    keras, layers, stack = nb.keras, nb.layers, []
    for width in (32, 64):
        for kernel_size, strides, padding in ((3, 1, "valid"), (3, 1, "valid"), (5, 2, "same")):
            stack.append(layers.Conv2D(width, kernel_size, strides, padding, activation="relu"))
            stack.append(layers.BatchNormalization())
        stack.append(layers.Dropout(0.4))
    stack += [layers.Conv2D(128, 4, activation="relu"), layers.BatchNormalization()]
    decay = keras.callbacks.LearningRateScheduler(lambda epoch: 0.001 * 0.95**epoch)
    model = network(nb, *stack, layers.Flatten(), layers.Dropout(0.4))
    return model, "adam", {"batch_size": 64, "callbacks": [decay]}


PEERS = {"Keras's convnet": convnet, "PyTorch's example": pytorch_example, "Deotte's": deotte}
PEERS["LeNet-5"] = lambda nb: (nb.build_lenet5(), "adam", {"batch_size": 128})
OURS, BEST, FIT = "this notebook", "best", "model.fit(\n"
EPOCHS = cells.settings()["EPOCHS"]
RUNS = [(OURS, EPOCHS, 3), ("Keras's convnet", 15, 3), (BEST, 13, 5)]  # name, epochs, seeds
RUNS += [("LeNet-5", 15, 3), ("PyTorch's example", 14, 1), ("Deotte's", 30, 1)]
DAMAGE = [("noise", 0.3), ("contrast", 0.6), ("contrast", 0.2), ("blur", 1.5)]
DAMAGE += [("translation", 3), ("rotation", 30), ("scale", 0.6), ("occlusion", 10)]


def damage(nb, images, kind, amount):
    """Return `images` (n, 28, 28, 1) damaged as in the notebook, or by a square of that side."""
    if kind == "occlusion":
        corner = np.random.default_rng(0).integers(0, 29 - amount, (2, len(images), 1))
        rows, columns = (np.arange(28) >= corner) & (np.arange(28) < corner + amount)
        return np.where((rows[:, :, None] & columns[:, None])[..., None], 0, images)
    amount = 1 / amount - 1 if kind == "scale" else amount  # a factor; zoomed out by
    return np.clip(nb.DAMAGES[kind][-1](images, amount), 0, 1)


def fit_peer(name, nb, x, y, epochs, seed):
    """Train the network `name` on images `x` and one-hot `y`; return it."""
    nb.keras.utils.set_random_seed(seed)
    model, optimizer, settings = PEERS[name](nb)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    data = [x, y]
    if name == "Deotte's":  # with his limits of augmentation, in our pipeline
        motion = [nb.layers.RandomRotation(10 / 360, "constant")]
        motion += [nb.layers.RandomZoom(0.1, 0.1, "constant")]
        motion += [nb.layers.RandomTranslation(0.1, 0.1, "constant")]
        nb.make_motion = lambda: nb.layers.Pipeline(motion)
        nb.sometimes = lambda vary, images, share: vary(images)
        data = [nb.make_training_data(x, y, "geometric", settings.pop("batch_size"))]
        settings["shuffle"] = False
    model.fit(*data, epochs=epochs, verbose=2, **settings)
    return model


def fit_best(nb, x, y, epochs, seed):
    """Train the notebook's network for longer, with motion alone and smoothed labels."""
    nb.keras.utils.set_random_seed(seed)
    model, data = nb.build_cnn(), nb.make_training_data(x, y, "geometric")
    nb.compile_model(model, epochs * len(data))
    loss = nb.keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    model.compile(model.optimizer, loss=loss)
    model.fit(data, epochs=epochs, shuffle=False, verbose=2)
    return model


def train(name, epochs, seed):
    """Train one network and return the record."""
    nb = cells.load_definitions()
    settings = {"SEED": seed, "DATA": cells.DATA, "EPOCHS": epochs}
    space, _ = cells.run(until=FIT if name == OURS else "keras.Sequential(", **settings)
    data = space["x_train"], space["y_train"]
    started = time.perf_counter()
    if name == OURS:
        cells.run_cell(*cells.find(FIT), space)
        model = space["model"]
    elif name == BEST:
        model = fit_best(nb, *data, epochs, seed)
    else:
        model = fit_peer(name, nb, *data, epochs, seed)
    record = {"variant": name, "seed": seed, "epochs": epochs}
    record["seconds"] = round(time.perf_counter() - started, 2)
    record["parameters"] = model.count_params()
    for prefix, part in (("val_", "val"), ("", "test")):
        images, labels = space[f"x_{part}"], space[f"y_{part}"].argmax(axis=1)
        looks = [images]
        if name == BEST:  # five views: also moved by a pixel in four directions
            looks += [np.roll(images, step, axis) for axis in (1, 2) for step in (1, -1)]
        given = np.mean([model.predict(x, batch_size=500, verbose=0) for x in looks], axis=0)
        record[f"{prefix}accuracy"] = round(float(np.mean(given.argmax(axis=1) == labels)), 5)
        loss = -np.log(given[np.arange(len(labels)), labels]).mean()
        record[f"{prefix}loss"] = round(float(loss), 5)
    if name == OURS and epochs == EPOCHS:
        record["baseline_accuracy"] = round(space["baseline_accuracy"], 5)
        images, labels = space["x_test"][::5], space["y_test"][::5]
        for kind, amount in DAMAGE:  # accuracy in %
            _, accuracy = model.evaluate(damage(nb, images, kind, amount), labels, verbose=0)
            record[f"{kind} {amount}"] = round(100 * accuracy, 2)
    told = Path("/proc/cpuinfo")  # of Linux; with AVX-512 a processor trains twice as fast
    fast = ", AVX-512" if told.exists() and "avx512f" in told.read_text() else ""
    record["machine"] = f"{platform.machine()}, {os.cpu_count()} cores{fast}"
    return record | {"tensorflow": nb.tf.__version__, "keras": nb.keras.__version__}


def main(*run):
    if run:
        record = train(run[0], *map(int, run[1:]))
        with open(RECORD, "a") as file:
            file.write(json.dumps(record) + "\n")
        return
    rows = map(json.loads, RECORD.read_text().splitlines())
    finished = [(row["variant"], row["epochs"], row["seed"]) for row in rows]
    for seed in range(1, 6):
        for name, epochs, seeds in RUNS:
            if seed <= seeds and (name, epochs, seed) not in finished:
                print(f"\n{name}, {epochs} epochs, seed {seed}", flush=True)
                subprocess.run([sys.executable, __file__, name, str(epochs), str(seed)], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
