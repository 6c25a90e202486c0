"""Sections 11 and 12: their functions, the recorded runs, and a search that several share."""

import functools
import subprocess
import sys

import cells
import numpy as np
import pytest

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import peers  # noqa: E402

EXPERIMENTS = ["hyperparameters", "augmentation", "architectures", "transfer"]


@pytest.fixture(scope="module")
def recorded(notebook):
    return notebook.Runs(cells.ROOT / "benchmarks" / "extensions.jsonl")


# --- the recorded runs -------------------------------------------------------------------------


def test_recorded_runs_hold_what_is_shown_of_them(recorded):
    assert list(dict.fromkeys(row["experiment"] for row in recorded.rows)) == EXPERIMENTS
    for row in recorded.rows:
        assert {"seed", "tensorflow"} <= set(row)
        assert 0.5 < row["accuracy"] <= 1
        assert all(row[name] > 0 for name in ("digits", "epochs", "parameters", "seconds", "loss"))


@pytest.mark.parametrize(
    "experiment, by, groups",
    [
        ("augmentation", ["digits", "variant"], 9),
        ("architectures", ["variant"], 3),
        ("transfer", ["per class", "variant"], 8),
    ],
)
def test_recorded_groups_have_five_seeds(recorded, experiment, by, groups):
    seeds = recorded.of(experiment).groupby(by)["seed"].agg(sorted).tolist()
    assert seeds == [[1, 2, 3, 4, 5]] * groups


def test_recorded_search_has_its_trials_and_began_with_the_default(recorded):
    trials = recorded.of("hyperparameters")
    assert trials["trial"].tolist() == list(range(16))
    names = ["filters", "kernel_size", "dropout", "peak_rate", "batch_size"]
    assert trials.loc[0, names].tolist() == [16, 5, 0.4, 0.004, 128]


# --- runs that go on where they stopped --------------------------------------------------------


@pytest.fixture
def trained(notebook, monkeypatch):
    """Put into `train_and_score`'s place what trains nothing; return the list of its calls."""
    calls = []

    def train_and_score(*arguments, **settings):
        calls.append(settings)
        return None, {"accuracy": 0.5 + len(calls) / 100}

    monkeypatch.setattr(notebook, "train_and_score", train_and_score)
    return calls


def test_finished_runs_are_not_done_again(notebook, trained, tmp_path):
    keys = [{"experiment": "tiny", "seed": seed} for seed in (1, 2, 3)]
    for interrupted_after in (2, 3):
        runs = notebook.Runs(tmp_path / "runs.jsonl")
        for key in keys[:interrupted_after]:
            runs.get(key)
    assert len(trained) == 3
    assert runs.of("tiny")["accuracy"].tolist() == [0.51, 0.52, 0.53]
    assert runs.rows == notebook.Runs(tmp_path / "runs.jsonl").rows


def test_a_search_that_was_cut_off_trains_nothing_again(notebook, trained, tmp_path):
    for trials in (3, 5):
        runs = notebook.Runs(tmp_path / "runs.jsonl")
        notebook.search((), 1, trials, runs, seed=1)
    assert len(trained) == len(runs.rows) == 5
    assert (runs.rows[0]["filters"], runs.rows[0]["peak_rate"]) == (16, 0.004)
    assert len({row["peak_rate"] for row in runs.rows}) == 5


WORKER = """
import functools, sys, time, warnings
import cells
space = {"functools": functools, "warnings": warnings, "build_cnn": print}
((index, cell),) = [(i, c) for i, c in cells.code_cells() if "def search(" in c.source]
cells.run_cell(index, cell, space)

class Runs:
    def get(self, key, *arguments, **settings):
        print(key["trial"], key["peak_rate"], flush=True)
        time.sleep(0.5)
        return {"accuracy": 0.5}

space["search"]((), 1, 6, Runs(), 1, sys.argv[1])
"""


def test_two_processes_share_one_search(tmp_path):
    start = functools.partial(
        subprocess.Popen,
        [sys.executable, "-c", WORKER, f"sqlite:///{tmp_path}/search.db"],
        cwd=cells.ROOT / "tests",
        stdout=subprocess.PIPE,
        text=True,
    )
    with start() as first:
        begun = first.stdout.readline()
        with start() as second:
            lines = [[begun, *first.stdout], [*second.stdout]]
    assert first.returncode == second.returncode == 0
    assert all(lines), "one of them tried nothing"
    numbers, rates = zip(*(line.split() for line in lines[0] + lines[1]))
    assert sorted(map(int, numbers)) == list(range(len(numbers)))
    assert len(numbers) in (6, 7)  # one may be under way when the sixth is complete
    assert len(set(rates)) == len(rates)


# --- networks and training ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, variant, parameters",
    [
        ("build_cnn", "this notebook", 133722),
        ("build_all_convolutional", "all-convolutional", 89882),
        ("build_residual", "residual", 42762),
    ],
)
def test_networks_have_their_size_and_give_probabilities(
    notebook, recorded, name, variant, parameters
):
    model = getattr(notebook, name)()
    runs = recorded.of("architectures").query("variant == @variant")
    assert {model.count_params()} == set(runs["parameters"]) == {parameters}
    given = model(np.zeros((3, 28, 28, 1), np.float32)).numpy()
    assert given.shape == (3, 10)
    np.testing.assert_allclose(given.sum(axis=1), np.ones(3), rtol=1e-5)


def test_networks_are_what_they_are_called(notebook):
    kinds = [type(layer).__name__ for layer in notebook.build_all_convolutional().layers]
    assert "Dense" not in kinds
    assert [kind for kind in kinds if "Pooling" in kind] == ["GlobalAveragePooling2D"]
    residual = notebook.build_residual()
    assert sum(type(layer).__name__ == "Add" for layer in residual.layers) == 2
    assert not isinstance(residual, notebook.keras.Sequential)


def test_training_follows_its_settings_and_its_seed(notebook):
    layers = notebook.keras.layers
    data = (
        np.random.default_rng(0).random((64, 28, 28, 1), np.float32),
        np.eye(10)[np.arange(64) % 10],
    )

    def build():
        flat = [notebook.keras.Input((28, 28, 1)), layers.Flatten()]
        return notebook.keras.Sequential([*flat, layers.Dense(10, activation="softmax")])

    def train(seed):
        settings = {"epochs": 2, "augment": "none", "batch_size": 16}
        return notebook.train_and_score(build, *data, seed, data, **settings)

    (model, first), (_, again), (_, other) = train(1), train(1), train(2)
    assert int(model.optimizer.iterations) == 8
    assert (first["digits"], first["epochs"], first["parameters"]) == (64, 2, 7850)
    loss, accuracy = model.evaluate(*data, verbose=0)
    assert (first["loss"], first["accuracy"]) == pytest.approx((loss, accuracy), abs=1e-5)
    assert first["loss"] == again["loss"] != other["loss"]


def test_frozen_layers_stay_as_they_are(notebook):
    model = notebook.build_on(notebook.build_cnn())
    before = [weight.copy() for weight in model.get_weights()]
    x, y = (
        np.random.default_rng(0).random((64, 28, 28, 1), np.float32),
        np.eye(10)[np.arange(64) % 10],
    )
    notebook.compile_model(model, 4)
    model.fit(x, y, batch_size=16, verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert same == [True] * (len(same) - 2) + [False] * 2  # the last layer's


def test_examples_are_picked_from_their_digits(notebook):
    labels = np.random.default_rng(0).integers(0, 10, 500)
    index = notebook.pick_examples(labels, range(5, 10), 7, seed=3)
    assert sorted(labels[index]) == sorted([5, 6, 7, 8, 9] * 7)
    assert len(set(index)) == 35
    np.testing.assert_array_equal(index, notebook.pick_examples(labels, range(5, 10), 7, seed=3))
    assert set(index) != set(notebook.pick_examples(labels, range(5, 10), 7, seed=4))


def test_code_for_larger_backbones_works(notebook):
    """The notebook's text shows code that needs a download; without its weights it must run."""
    (source,) = [c.source for c in cells.read().cells if "keras.applications.Mobile" in c.source]
    code = source.split("```python\n")[1].split("```")[0]
    assert code.count('weights="imagenet"') == 1
    space = {"keras": notebook.keras}
    exec(code.replace('weights="imagenet"', "weights=None"), space)
    given = space["build_on_backbone"]()(np.zeros((1, 28, 28, 1), np.float32))
    assert given.shape == (1, 10)


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


# --- tables and figures ------------------------------------------------------------------------


@pytest.fixture
def tiny(notebook):
    """Records of two variants: one with two runs at x = 1 and one at x = 2, one with one run."""
    columns = ["variant", "x", "accuracy", "loss", "seconds"]
    rows = [("a", 1, 0.5, 1, 3), ("a", 1, 0.7, 2, 5), ("a", 2, 0.9, 1, 1)]
    rows.append(("b", 1, 0.1, 1, 1))
    return notebook.pd.DataFrame(rows, columns=columns).assign(experiment="tiny")


def test_table_of_runs_shows_means_and_spreads(notebook, tiny):
    _, _, *rows = notebook.accuracy_table(tiny, ["variant", "x"]).splitlines()
    assert rows[0].split() == ["a", "1", "0.6", "0.1414", "2", "1.5"]
    assert rows[1].split()[1:4] == ["0.9", "NaN", "1"]


def test_figure_of_runs_shows_means_and_spreads(notebook, tiny):
    (axis,) = notebook.plot_runs(tiny, "x", "label", "x", [1, 2]).axes
    a, b = axis.containers
    np.testing.assert_allclose(a.lines[0].get_xydata(), [(1, 40), (2, 10)])  # errors in %
    low, high = (cap.get_ydata() for cap in a.lines[1])
    assert high[0] - low[0] == pytest.approx(2 * 100 * np.std([0.5, 0.7], ddof=1))
    np.testing.assert_allclose(b.lines[0].get_xydata(), [(1, 90)])
    assert [text.get_text() for text in axis.get_legend().texts] == ["a", "b"]
    (axis,) = notebook.plot_runs(tiny, "seconds", "label").axes  # one mark for each variant
    marks = [container.lines[0].get_xydata() for container in axis.containers]
    np.testing.assert_allclose(marks, [[(3, 30)], [(1, 90)]])


def test_errors_are_shown_as_accuracy(notebook):
    _, axis = notebook.plt.subplots()
    axis.plot([1, 2], [0.5, 40])
    notebook.show_errors_as_accuracy(axis)
    assert axis.get_yscale() == "log"
    assert axis.yaxis.get_major_formatter()(0.5, 0) == "99.5"
    assert axis.yaxis_inverted(), "the best stands on top"


# --- as the notebook ran -----------------------------------------------------------------------


def test_every_experiment_ran_on_the_small_budget(sample_run):
    runs = sample_run[0]["runs"]
    assert list(dict.fromkeys(row["experiment"] for row in runs.rows)) == EXPERIMENTS
    assert len(runs.of("architectures")) == 3
    assert runs.path is None


def test_robustness_is_that_of_the_three_networks(sample_run, notebook):
    space, figures = sample_run
    images, truth = space["x_test"][::5], space["test_labels"][::5]
    for name, network in space["networks"].items():
        for kind, step in (("rotation", 0), ("noise", 3), ("attack", 1)):
            amount = space["AMOUNTS"][kind][step]
            damaged = notebook.damage(images, kind, amount, network, truth)
            right = network.predict(damaged, verbose=0).argmax(axis=1) == truth
            assert space["robustness"][kind, name][step] == pytest.approx(100 * right.mean())
    assert set(space["networks"]) == {"none", "geometric", "all"}
    assert space["networks"]["all"] is space["model"]
    (figure,) = [f for f in figures if "Accuracy under damage" in f.get_suptitle()]
    panels = [axis for axis in figure.axes if axis.lines]
    for axis, kind in zip(panels, space["AMOUNTS"], strict=True):
        for line in axis.lines:
            assert list(line.get_ydata()) == space["robustness"][kind, line.get_label()]
