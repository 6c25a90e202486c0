"""Section 11: its functions, the recorded runs, and searches shared by several processes."""

import functools
import json
import os
import subprocess
import sys
import time

import cells
import numpy as np
import pytest

RECORDED = cells.ROOT / "benchmarks" / "extensions.jsonl"
EXPERIMENTS = ["hyperparameters", "augmentation", "architectures", "transfer", "best"]
KEYS = {"experiment", "seed", "digits", "epochs", "parameters", "seconds", "flops", "loss"}


@pytest.fixture(scope="module")
def recorded(notebook):
    return notebook.Records(RECORDED)


def test_recorded_runs_say_what_made_them_and_are_complete(recorded):
    assert set(recorded.made_with) == {"machine", "python", "tensorflow", "keras"}
    assert list(dict.fromkeys(row["experiment"] for row in recorded.rows)) == EXPERIMENTS
    for row in recorded.rows:
        assert {*KEYS, "accuracy"} <= set(row)
        assert 0.5 < row["accuracy"] <= 1
        assert row["seconds"] > 0 and row["flops"] > 0 and row["loss"] > 0
        assert isinstance(row["epochs"], int)


@pytest.mark.parametrize(
    "experiment, by, groups",
    [
        ("augmentation", ["digits", "variant"], 9),
        ("architectures", ["variant"], 5),
        ("transfer", ["per class", "variant"], 8),
        ("best", ["variant"], 2),
    ],
)
def test_recorded_groups_have_five_seeds(recorded, experiment, by, groups):
    table = recorded.of(experiment).groupby(by)["seed"].agg(sorted)
    assert len(table) == groups
    assert all(seeds == [1, 2, 3, 4, 5] for seeds in table)


def test_recorded_search_has_its_trials(recorded):
    trials = recorded.of("hyperparameters")
    assert trials["trial"].tolist() == list(range(16))
    default = trials.loc[0]
    assert (default["filters"], default["kernel_size"], default["peak_rate"]) == (16, 5, 0.004)


def tiny_records(notebook, path):
    runs = notebook.Records(path)
    for seed in (1, 2):
        runs.get({"experiment": "tiny", "seed": seed}, lambda: {"accuracy": 0.5})
    return runs


def test_finished_runs_are_not_done_again(notebook, tmp_path):
    path = tmp_path / "build" / "runs.jsonl"
    tiny_records(notebook, path)
    resumed = notebook.Records(path)
    assert resumed.of("tiny")["seed"].tolist() == [1, 2]

    def must_not_run():
        raise AssertionError("a finished run was done again")

    assert resumed.get({"experiment": "tiny", "seed": 2}, must_not_run)["accuracy"] == 0.5
    with pytest.raises(AssertionError):
        resumed.get({"experiment": "tiny", "seed": 3}, must_not_run)
    assert len(notebook.Records(path).rows) == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["runs.jsonl"]


def test_records_of_other_versions_are_not_mixed(notebook, tmp_path):
    path = tmp_path / "runs.jsonl"
    tiny_records(notebook, path)
    lines = path.read_text().splitlines()
    head = json.loads(lines[0])
    head["made_with"]["tensorflow"] = "1.0"
    path.write_text("\n".join([json.dumps(head), *lines[1:]]))
    other = notebook.Records(path)
    with pytest.raises(ValueError, match="was begun with .* go on there or delete it"):
        other.get({"experiment": "tiny", "seed": 3}, lambda: {"accuracy": 0.5})
    assert len(other.rows) == 2


def test_an_experiment_without_runs_is_one_sentence(notebook, tmp_path):
    with pytest.raises(ValueError, match=r"none.jsonl holds no run of 'best'; .* again\.$"):
        notebook.Records(tmp_path / "none.jsonl").of("best")


@pytest.mark.parametrize("text", [None, "", "{", "[1]\n", '{"a": 1}\n', '{"made_with": {}}\n{"x'])
def test_damaged_records_are_one_sentence(notebook, tmp_path, text):
    path = tmp_path / "runs.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"runs.jsonl holds no records .* make it again\.$"):
        notebook.read_records(path)


@pytest.mark.parametrize(
    "name, parameters, flops",
    [  # multiply-adds by hand: pixels x kernel x channels in x channels out
        (
            "build_lenet5", 61706,
            2 * (784 * 25 * 6 + 100 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10),
        ),
        ("build_keras_convnet", 34826, 2 * (676 * 9 * 32 + 121 * 288 * 64 + 1600 * 10)),
        (
            "build_cnn", 133722,
            2 * (576 * 25 * 16 + 100 * 144 * 48 + 9 * 432 * 96 + 864 * 96 + 96 * 10),
        ),
    ],
)  # fmt: skip
def test_sizes_of_the_networks(notebook, name, parameters, flops):
    model = getattr(notebook, name)()
    assert model.count_params() == parameters
    assert notebook.training_flops(model) == 3 * flops


def test_all_convolutional_network_is_what_it_is_called(notebook):
    kinds = {type(layer).__name__ for layer in notebook.build_all_convolutional().layers}
    assert "Dense" not in kinds
    assert not any("MaxPooling" in kind or kind == "AveragePooling2D" for kind in kinds)


def test_residual_network_adds_its_shortcuts(notebook):
    model = notebook.build_residual()
    assert sum(type(layer).__name__ == "Add" for layer in model.layers) == 2
    assert not isinstance(model, notebook.keras.Sequential)


def test_parts_of_the_networks(notebook):
    conv, norm, activation = notebook.normalized_conv(8, 3, "linear", padding="same")
    assert (conv.filters, conv.padding, conv.use_bias) == (8, "same", False)
    assert type(norm).__name__ == "BatchNormalization"
    assert activation.activation is notebook.keras.activations.linear
    image = notebook.keras.Input((6, 6, 3))
    assert notebook.residual_block(image, 8).shape == (None, 6, 6, 8)


def test_augmentation_is_compared_at_equal_epochs_and_equal_time(notebook):
    asked = {}

    class Runs:
        def get(self, key, run, *arguments):
            assert run is notebook.train_and_score
            asked[key["variant"]] = arguments[-2:]  # epochs, augment
            return {"seconds": 15.0 if key["variant"] == "with" else 10.0}

    notebook.compare_augmentation(Runs(), np.zeros(100), None, None, 1, 20)
    assert asked == {
        "with": (20, True), "without": (20, False), "without, equal time": (30, False)
    }  # fmt: skip


def test_layers_of_keras_distort_in_training_only(notebook):
    images = np.zeros((4, 28, 28, 1), np.float32)
    images[:, 8:20, 12:16] = 1
    layers = notebook.keras_augmentation()
    np.testing.assert_array_equal(layers(images, training=False), images)
    assert np.abs(layers(images, training=True) - images).max(axis=(1, 2, 3)).min() > 0.1
    assert 0 < notebook.seconds_per_batch(lambda batch: batch, images, batches=5) < 0.1


def test_figure_of_the_search_rings_the_default(notebook):
    records = notebook.Records()
    records.rows = [
        {"experiment": "hyperparameters", "accuracy": a, "flops": f, "peak_rate": 0.004}
        for a, f in ((0.9, 1e9), (0.98, 2e9), (0.7, 3e9))
    ]
    fig = notebook.plot_search(records, records)
    for axis in fig.axes[:2]:
        (ring,) = axis.lines
        assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (1e9, pytest.approx(10))
        np.testing.assert_allclose(axis.collections[0].get_offsets()[:, 1], [10, 2, 30])


def test_train_network_trains_what_it_builds(notebook):
    images = np.random.default_rng(0).random((64, 28, 28, 1), np.float32)
    labels = notebook.one_hot(np.arange(64) % 10)
    model, record = notebook.train_network(
        notebook.build_cnn, images, labels, 1, 2, batch_size=16, peak_rate=0.01
    )
    assert int(model.optimizer.iterations) == 8
    assert {k: record[k] for k in ("digits", "epochs", "parameters")} == {
        "digits": 64, "epochs": 2, "parameters": 133722
    }  # fmt: skip


@pytest.mark.parametrize("name", ["lenet5", "keras_convnet", "all_convolutional", "residual"])
def test_networks_give_probabilities(notebook, name):
    model = getattr(notebook, f"build_{name}")()
    given = model.predict(np.zeros((3, 28, 28, 1), np.float32), verbose=0)
    np.testing.assert_allclose(given.sum(axis=1), np.ones(3), rtol=1e-5)
    assert given.shape == (3, 10)


def test_same_seed_gives_the_same_record_and_another_does_not(notebook, sample_run):
    space, _ = sample_run
    x, y, scoring = space["x_train"][:256], space["y_train"][:256], space["validation_data"]
    train = functools.partial(notebook.train_and_score, notebook.build_cnn, x, y)
    first, again, other = (
        {k: v for k, v in train(seed, scoring, 2).items() if k != "seconds"} for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first["digits"] == 256
    assert first["flops"] == 256 * 2 * notebook.training_flops(notebook.build_cnn())


def test_frozen_layers_stay_as_they_are(notebook):
    base, last = notebook.build_cnn(), 2 * 96 * 10
    whole = notebook.training_flops(base)
    model = notebook.build_on(base)
    assert notebook.training_flops(model) == (whole - 3 * last) / 3 + 3 * last
    before = [weight.copy() for weight in model.get_weights()]
    images = np.random.default_rng(0).random((256, 28, 28, 1), np.float32)
    labels = notebook.one_hot(np.arange(256) % 10)
    data = notebook.make_training_dataset(images, labels, 128, 1)
    notebook.compile_model(model, 4)
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    trained = {id(weight) for weight in model.trainable_weights}
    assert same == [id(weight) not in trained for weight in model.weights]
    assert len(trained) == 2


def test_examples_are_picked_from_their_digits(notebook, sample_run):
    labels = sample_run[0]["y_train"]
    index = notebook.pick_examples(labels, range(5, 10), 7, seed=3)
    assert sorted(labels[index].argmax(axis=1)) == sorted([5, 6, 7, 8, 9] * 7)
    assert len(set(index)) == 35
    np.testing.assert_array_equal(index, notebook.pick_examples(labels, range(5, 10), 7, seed=3))
    assert set(index) != set(notebook.pick_examples(labels, range(5, 10), 7, seed=4))


def test_figure_of_runs_shows_means_and_spreads(notebook):
    records = notebook.Records()
    records.rows = [
        {"experiment": "tiny", "variant": variant, "x": x, "accuracy": accuracy}
        for variant, x, accuracy in [("a", 1, 0.5), ("a", 1, 0.7), ("a", 2, 0.9), ("b", 1, 0.1)]
    ]
    fig = notebook.plot_runs(records, records, "tiny", "x", "label")
    for axis, title in zip(fig.axes, ("This run", "Recorded")):
        assert (axis.get_title(), axis.get_xlabel()) == (title, "label")
        a, b = axis.containers
        np.testing.assert_allclose(a.lines[0].get_ydata(), [40, 10])  # errors in %
        low, high = (cap.get_ydata() for cap in a.lines[1])
        np.testing.assert_allclose(high - low, [2 * 100 * np.std([0.5, 0.7], ddof=1), 0], atol=1e-9)
        np.testing.assert_allclose(b.lines[0].get_ydata(), [90])
        assert axis.yaxis.get_major_formatter()(10, 0) == "90"
        assert axis.yaxis_inverted()
    assert [text.get_text() for text in fig.legends[0].texts] == ["a", "b"]


def test_errors_are_shown_as_accuracy(notebook):
    _, axis = notebook.plt.subplots()
    axis.plot([1, 2], [0.5, 40])
    notebook.show_errors_as_accuracy(axis)
    assert axis.get_yscale() == "log"
    assert axis.yaxis.get_major_formatter()(0.5, 0) == "99.5"
    assert axis.get_ylim()[0] > axis.get_ylim()[1]


def test_every_experiment_ran_on_the_small_budget(sample_run):
    space, _ = sample_run
    assert list(dict.fromkeys(row["experiment"] for row in space["runs"].rows)) == EXPERIMENTS
    assert len(space["runs"].of("architectures")) == 5
    assert space["runs"].path is None


def test_code_for_larger_backbones_works(notebook):
    """The notebook's text shows code that needs a download; without its weights it must run."""
    (source,) = [c.source for c in cells.read().cells if "keras.applications." in c.source]
    code = source.split("```python\n")[1].split("```")[0]
    assert code.count('weights="imagenet"') == 1
    space = {"keras": notebook.keras}
    exec(code.replace('weights="imagenet"', "weights=None"), space)
    given = space["build_on_backbone"]().predict(np.zeros((1, 28, 28, 1), np.float32), verbose=0)
    assert given.shape == (1, 10)
    backbone = space["keras"].applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(96, 96, 3)
    )
    ratio = notebook.training_flops(backbone) / notebook.training_flops(notebook.build_cnn())
    assert "some forty times the computing" in source
    assert 30 < ratio < 45  # depthwise convolutions, about a tenth, are not counted


WORKER = """
import sys, time
import cells
import numpy as np
module = cells.load_definitions()
images = np.random.default_rng(0).random((256, 28, 28, 1), dtype=np.float32)
labels = np.eye(10, dtype=np.float32)[np.arange(256) % 10]
validation = module.make_evaluation_dataset(images, labels)
objective = module.make_objective(images, labels, validation, 1, 1, module.Records())
print("ready", flush=True)
def named(trial):
    trial.set_user_attr("worker", sys.argv[2])
    if sys.argv[2] == "mortal" and any(
        t.user_attrs.get("worker") == "mortal" and t.value for t in trial.study.trials
    ):
        time.sleep(600)  # its second trial never ends
    time.sleep(1)
    return objective(trial)
module.search(named, 6, sys.argv[1])
"""


def start_worker(journal, name):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, journal, name],
        env={**os.environ, "PYTHONPATH": str(cells.ROOT / "tests"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def wait_for(condition, seconds=240):
    """Return what `condition()` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the workers did not get there in time"
        time.sleep(0.2)
    return result


def trials_in(notebook, journal, state, worker=None):
    """Return {number: accuracy} of the trials in `journal` in this state, all or one worker's."""
    return {
        trial.number: trial.value
        for trial in notebook.search(None, 0, journal).get_trials()
        if trial.state.name == state and worker in (None, trial.user_attrs.get("worker"))
    }


def test_two_workers_share_a_search_and_the_death_of_one_loses_nothing(notebook, tmp_path):
    journal = tmp_path / "search.journal"
    workers = [start_worker(journal, name) for name in ("mortal", "other")]
    look = functools.partial(trials_in, notebook, journal)
    try:
        for worker in workers:
            assert worker.stdout.readline() == b"ready\n"
        finished = wait_for(lambda: look("COMPLETE", "mortal"))
        (running,) = wait_for(lambda: look("RUNNING", "mortal"))
        workers[0].kill()
        assert workers[0].wait(60) != 0
        assert workers[1].wait(240) == 0
    finally:
        for worker in workers:
            worker.kill()
    complete = look("COMPLETE")
    assert len(complete) == 6
    assert finished.items() <= complete.items(), "a finished trial was lost"
    assert set(look("COMPLETE", "mortal")) | set(look("COMPLETE", "other")) == set(complete)
    assert len(look("COMPLETE", "other")) == 6 - len(finished) > 0
    assert set(look("RUNNING")) == {running}


def test_a_search_goes_on_where_it_stopped(notebook, tmp_path):
    journal = tmp_path / "search.journal"
    ran = []

    def objective(trial):
        ran.append(trial.suggest_float("peak_rate", 0.001, 0.01))
        return ran[-1]

    notebook.search(objective, 2, journal)
    study = notebook.search(objective, 5, journal)
    assert len(ran) == len(study.trials) == len(set(ran)) == 5
