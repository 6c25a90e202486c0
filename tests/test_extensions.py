"""Sections 11 and 12: their functions, what their cells computed; and the peers."""

import gc

import cells
import numpy as np
import peers
import pytest


def some_images(count=64):
    """Return random images (count, 28, 28, 1) and one-hot labels (count, 10)."""
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return images, np.eye(10)[np.arange(count) % 10]


def test_architectures_give_probabilities_and_lenet_has_its_published_size(notebook):
    for build in notebook.architectures.values():
        given = build()(some_images(3)[0]).numpy()
        np.testing.assert_allclose(given.sum(axis=1), np.ones(3), rtol=1e-5)
    assert notebook.build_lenet5().count_params() == 61706


def test_training_follows_its_settings_and_its_seed(notebook):
    x, y = some_images()

    def train(seed):
        return notebook.train_and_score(notebook.build_dense, x, y, (x, y), 2, seed, rate=0.01)[0]

    first, same, other = train(1), train(1), train(2)
    assert int(first.optimizer.iterations) == 4
    np.testing.assert_array_equal(first.get_weights()[0], same.get_weights()[0])
    assert np.abs(first.get_weights()[0] - other.get_weights()[0]).max() > 0.01


def test_accuracy_is_that_of_other_images(notebook):
    x, y = some_images()
    for labels, low, high in ((y, 0.9, 1), (y[::-1], 0, 0.2)):
        judged = x, labels
        _, accuracy = notebook.train_and_score(notebook.build_dense, x, y, judged, 40, rate=0.01)
        assert low <= accuracy <= high


def test_a_training_leaves_no_graph_in_memory(notebook):
    graphs = []
    for _ in range(3):
        x, y = some_images()
        notebook.train_and_score(notebook.build_dense, x, y, (x, y), 1)
        gc.collect()
        graphs.append(sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects()))
    assert graphs[0] == graphs[1] == graphs[2]


def test_copies_are_trained_ones_and_frozen_layers_stay(notebook):
    model = notebook.build_cnn()
    before = [weight.copy() for weight in model.get_weights()]
    for frozen in (True, False):
        network = notebook.copy_trained(model, frozen)
        assert all(map(np.array_equal, before, network.get_weights()))
        notebook.compile_model(network, 4)
        network.fit(*some_images(), batch_size=16, verbose=0)
        same = [np.array_equal(a, b) for a, b in zip(before, network.get_weights())]
        assert same == [frozen] * (len(same) - 2) + [False] * 2  # the last layer's
    assert all(map(np.array_equal, before, model.get_weights())), "the trained network changed"


SIZES = {"Keras's convnet": 34826, "LeNet-5": 61706}  # published numbers of parameters
SIZES |= {"PyTorch's example": 1199882, "Deotte's": 327242}


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_can_be_trained(notebook, name, monkeypatch):
    for function in ("make_motion", "sometimes"):  # Deotte's has limits of its own
        monkeypatch.setattr(notebook, function, getattr(notebook, function))
    model = peers.fit_peer(name, notebook, *some_images(128), 1, seed=1)
    untrained, _, settings = peers.PEERS[name](notebook)
    assert int(model.optimizer.iterations) == 128 / settings["batch_size"]
    assert untrained.count_params() == model.count_params() == SIZES[name]


def test_search_begins_with_the_notebooks_choice(space):
    choice = {"dropout": space["DROPOUT"], "filters": 16, "rate": space["LEARNING_RATE"]}
    assert space["study"].trials[0].params == choice and len(space["study"].trials) == 8


def test_transfer_judges_by_other_digits_than_it_learns_from(space):
    learned = np.unique(space["index"])
    assert len(learned) == 200 and learned.max() < len(space["others"]) - len(space["judged"][0])
    labels = space["their_labels"].argmax(axis=1)
    np.testing.assert_array_equal(labels, space["small_digits"].target[:1500])


def test_ones_own_pictures_are_learned(space, notebook, tmp_path, capsys):
    for number, (image, label) in enumerate(zip(space["test_images"][:20], space["test_labels"])):
        picture = notebook.Image.fromarray(255 - image).resize((112, 112))
        picture.save(tmp_path / f"{label}-{number:02}.png")
    ((index, cell),) = [pair for pair in cells.code_cells() if "MY_DIGITS = " in pair[1].source]
    cell.source = cell.source.replace('MY_DIGITS = ""', f"MY_DIGITS = {str(tmp_path)!r}")
    trains = {"train_and_score": notebook.train_and_score}
    cells.run_cell(index, cell, own := {**space, "MODELS": tmp_path, **trains})
    assert "your digits read correctly: " in capsys.readouterr().out
    assert len(own["mine"]) == 20 and min(own["before"], own["after"]) > 0.5
    assert (tmp_path / "mine.keras").exists()


def test_robustness_is_that_of_the_three_networks(sample_run, notebook):
    space, figures = sample_run
    assert space["networks"]["this notebook's"] is space["model"]
    (figure,) = [f for f in figures if "Accuracy under damage" in f.get_suptitle()]
    panels = [axis for axis in figure.axes if axis.lines]
    images, truth = space["x_test"][::50], space["test_labels"][::50]
    for axis, (kind, (*_, change)) in zip(panels, notebook.DAMAGES.items(), strict=True):
        assert axis.get_xlabel().startswith(kind)
        for line in axis.lines:
            amount, accuracy = line.get_xdata()[3], line.get_ydata()[3]
            network = space["networks"][line.get_label()]
            known = (network, truth) if kind == "attack" else ()
            given = network.predict(np.clip(change(images, amount, *known), 0, 1), verbose=0)
            assert accuracy == pytest.approx(np.mean(given.argmax(axis=1) == truth))
