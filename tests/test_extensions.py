"""Sections 11 and 12: their functions, what their cells computed; and the peers."""

import sys
from pathlib import Path

import cells
import numpy as np
import pytest

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import peers  # noqa: E402


def some_images(count=64):
    """Return random images (count, 28, 28, 1) and one-hot labels (count, 10)."""
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return images, np.eye(10)[np.arange(count) % 10]


# --- networks and training ---------------------------------------------------------------------

SIZES = {"dense": 101770, "LeNet-5": 61706, "this notebook's": 133722}
SIZES |= {"all-convolutional": 89882, "residual": 42762}


def test_architectures_have_their_size_and_give_probabilities(notebook):
    (cell,) = [c for _, c in cells.code_cells() if c.source.startswith("architectures = {")]
    exec(cell.source, space := {**vars(notebook)})
    sizes = {}
    for name, build in space["architectures"].items():
        network = build()
        sizes[name] = network.count_params()
        given = network(np.zeros((3, 28, 28, 1), np.float32)).numpy()
        np.testing.assert_allclose(given.sum(axis=1), np.ones(3), rtol=1e-5)
    assert sizes == SIZES


def test_networks_are_what_they_are_called(notebook):
    kinds = [type(layer).__name__ for layer in notebook.build_all_convolutional().layers]
    assert "Dense" not in kinds
    assert [kind for kind in kinds if "Pooling" in kind] == ["GlobalAveragePooling2D"]
    residual = notebook.build_residual()
    assert sum(type(layer).__name__ == "Add" for layer in residual.layers) == 2
    shortcuts = [layer for layer in residual.layers if getattr(layer, "kernel_size", 0) == (1, 1)]
    assert len(shortcuts) == 2
    assert notebook.build_dense("linear").layers[1].activation is notebook.keras.activations.linear


def test_training_follows_its_settings_and_its_seed(notebook):
    data = some_images()

    def train(seed):
        settings = {"epochs": 2, "rate": 0.01, "batch_size": 16}
        return notebook.train_and_score(notebook.build_dense, *data, data, seed=seed, **settings)

    (network, accuracy), (again, _), (other, _) = train(1), train(1), train(2)
    assert int(network.optimizer.iterations) == 8
    assert network.evaluate(*data, verbose=0)[1] == pytest.approx(accuracy)
    first, same, others = (np.concatenate([w.ravel() for w in n.get_weights()])
                           for n in (network, again, other))  # fmt: skip
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - others).max() > 0.01


def test_accuracy_is_that_of_other_images(notebook):
    x, y = some_images()
    settings = {"epochs": 20, "rate": 0.01, "batch_size": 16}
    _, accuracy = notebook.train_and_score(notebook.build_dense, x, y, (x, y), **settings)
    _, inverse = notebook.train_and_score(notebook.build_dense, x, y, (x, y[::-1]), **settings)
    assert accuracy > 0.9 > 0.2 > inverse


def test_copies_are_trained_ones_and_frozen_layers_stay(notebook):
    x, y = some_images()
    model = notebook.build_cnn()
    before = [weight.copy() for weight in model.get_weights()]
    for frozen in (True, False):
        network = notebook.copy_trained(model, frozen)
        for weight, copied in zip(before, network.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, copied)
        notebook.compile_model(network, 4)
        network.fit(x, y, batch_size=16, verbose=0)
        same = [np.array_equal(a, b) for a, b in zip(before, network.get_weights())]
        assert same == [frozen] * (len(same) - 2) + [False] * 2  # the last layer's
    assert all(map(np.array_equal, before, model.get_weights())), "the trained network changed"


def test_search_begins_with_the_notebooks_choice_and_can_be_repeated(notebook, monkeypatch):
    asked = []

    def train_and_score(build, *data, rate):
        asked.append((*build.args, rate))
        return None, -abs(np.log10(rate / 0.01))

    monkeypatch.setattr(notebook, "train_and_score", train_and_score)
    studies = [notebook.search(None, None, None, 8, 1) for _ in range(2)]
    assert asked[0] == (notebook.DROPOUT, 16, notebook.LEARNING_RATE)
    assert asked[:8] == asked[8:]
    assert len(set(asked)) == 8
    assert studies[0].best_value == max(trial.value for trial in studies[0].trials)


# --- peers -------------------------------------------------------------------------------------


def test_operations_of_a_training_are_counted(notebook):
    """LeNet-5 by hand: 117,600 + 240,000 + 48,000 + 10,080 + 840 uses of a weight."""
    model, _, _ = peers.lenet5(notebook)
    assert peers.training_flops(model, 2) == 2 * 6 * 416_520


PARAMETERS = {"Keras's convnet": 34826, "LeNet-5": 61706, "PyTorch's example": 1199882}
PARAMETERS["Deotte's"] = 327242


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_can_be_trained(notebook, name, monkeypatch):
    digits = notebook.load_digits()
    x = np.kron(digits.images[:128] / 16, np.ones((1, 3, 3)))
    x = np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.float32)
    y = np.eye(10)[digits.target[:128]]
    for function in ("make_motion", "sometimes"):  # Deotte's has limits of its own
        monkeypatch.setattr(notebook, function, getattr(notebook, function))
    model = peers.fit_peer(name, notebook, x, y, 1, seed=1)
    given = model.predict(x, verbose=0)
    np.testing.assert_allclose(given.sum(axis=1), np.ones(128), rtol=1e-4)
    untrained, _, settings = peers.PEERS[name](notebook)
    assert int(model.optimizer.iterations) == 128 / settings["batch_size"]
    assert untrained.count_params() == PARAMETERS[name]


# --- as the notebook ran -----------------------------------------------------------------------


@pytest.fixture
def space(sample_run):
    return sample_run[0]


def run_cell_with(text, space, *replaced):
    """Run in a copy of `space` the one cell that holds `text`, one text replaced by another."""
    ((index, cell),) = [(i, c) for i, c in cells.code_cells() if text in c.source]
    assert not replaced or cell.source.count(replaced[0]) == 1
    cell.source = cell.source.replace(*replaced) if replaced else cell.source
    cells.run_cell(index, cell, space := {**space})
    return space


def test_transfer_judges_by_other_digits_than_it_learns_from(space):
    learned = {int(i) for part in space["chosen"] for i in part}
    assert len(learned) == 200 and max(learned) < 900
    np.testing.assert_array_equal(space["judged"][0], space["others"][900:])
    np.testing.assert_array_equal(space["their_labels"][900:], space["judged"][1].argmax(axis=1))


def test_ones_own_pictures_are_learned(space, notebook, tmp_path, capsys):
    Image = notebook.Image
    for number, (image, label) in enumerate(zip(space["test_images"][:20], space["test_labels"])):
        Image.fromarray(255 - image).resize((112, 112)).save(tmp_path / f"{label}-{number:02}.png")
    models = tmp_path / "models"
    models.mkdir()
    own = {**space, "MODELS": models}
    own = run_cell_with("MY_DIGITS = ", own, 'MY_DIGITS = ""', f"MY_DIGITS = {str(tmp_path)!r}")
    assert "your digits read rightly: " in capsys.readouterr().out
    assert own["before"] > 0.5 and own["after"] > 0.5
    assert len(own["mine"]) == 20 and Path(models / "mine.keras").exists()


def test_robustness_is_that_of_the_three_networks(sample_run, notebook):
    space, figures = sample_run
    assert list(space["networks"]) == ["all", "none", "geometric"]
    assert space["networks"]["all"] is space["model"]
    (figure,) = [f for f in figures if "Accuracy under damage" in f.get_suptitle()]
    panels = [axis for axis in figure.axes if axis.lines]
    for axis, kind in zip(panels, notebook.DAMAGES, strict=True):
        for line in axis.lines:
            amount, accuracy = line.get_xdata()[3], line.get_ydata()[3]
            part = slice(None, None, 40 if kind == "attack" else 10)
            images, truth = space["x_test"][part], space["test_labels"][part]
            network = space["networks"][line.get_label()]
            damaged = notebook.damage(images, kind, amount, network, truth)
            right = network.predict(damaged, verbose=0).argmax(axis=1) == truth
            assert accuracy == pytest.approx(right.mean())
