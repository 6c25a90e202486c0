"""Every number in the README and in the notebook's text is one that a run gave."""

import re
import statistics
import sys

import cells
import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import readme_tables  # noqa: E402

README = readme_tables.README.read_text(encoding="utf-8")
TEXT = "\n".join(cell.source for cell in cells.read().cells if cell.cell_type == "markdown")
RECORD = readme_tables.record("results.json")
OURS, REFERENCE = RECORD["summary"]["notebook"], RECORD["summary"]["reference"]
RUNS = pd.read_json(cells.ROOT / "benchmarks" / "extensions.jsonl", lines=True)


def says(*claims):
    """Assert that the notebook's text holds each of `claims`."""
    for claim in claims:
        assert claim in TEXT, f"the text does not say: {claim}"


def percent(value, digits=2):
    return f"{100 * value:.{digits}f} %"


def of(experiment, variant, **key):
    """Return the recorded runs of a variant in an experiment."""
    wanted = {"experiment": experiment, "variant": variant, **key}
    columns = RUNS.rename(columns={"per class": "per_class"})
    runs = RUNS[(columns[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(runs) == 5, f"{wanted} was recorded for {len(runs)} seeds, not 5"
    return runs


def avoided(worse, better):
    """Return the share of `worse` that `better` avoids, as text."""
    return percent(1 - better / worse, 0)


def test_record_is_summarized_rightly():
    for row, summary in (("notebook", OURS), ("reference", REFERENCE)):
        runs = [run for run in RECORD["runs"] if run["row"] == row]
        assert sorted(run["seed"] for run in runs) == list(range(1, summary["seeds"] + 1))
        for metric in ("test_accuracy", "test_loss"):
            values = [run[metric] for run in runs]
            assert summary[metric] == statistics.mean(values)
            assert summary[f"{metric}_sd"] == statistics.stdev(values)


def test_committed_run_agrees_with_itself_and_with_the_record():
    loss, accuracy, low, high, errors = map(float, readme_tables.evaluation())
    assert accuracy == round(1 - errors / 10000, 4)
    assert low < accuracy < high
    assert abs(accuracy - OURS["test_accuracy"]) < 0.0012  # the band of the notebook's last cell
    assert abs(loss - OURS["test_loss"]) < 0.003


def test_opening_and_conclusion():
    baselines = [r["baseline_accuracy"] for r in RECORD["runs"] if r["row"] == "notebook"]
    fewer = avoided(1 - REFERENCE["test_accuracy"], 1 - OURS["test_accuracy"])
    says(
        f"**{percent(OURS['test_accuracy'])} of MNIST's 10,000 test digits** correctly "
        f"(mean of {OURS['seeds']} seeds, standard deviation {100 * OURS['test_accuracy_sd']:.2f} "
        f"points; loss {OURS['test_loss']:.4f}) after {OURS['fit_seconds']:.0f} s of training",
        f"TensorFlow {RECORD['versions']['tensorflow']}",
        f"Over {OURS['seeds']} seeds this network reached a mean test accuracy of "
        f"{percent(OURS['test_accuracy'])} and a loss of {OURS['test_loss']:.4f}.",
        f"reached {percent(REFERENCE['test_accuracy'])} and {REFERENCE['test_loss']:.4f}: that is "
        f"{fewer} fewer errors in {RECORD['summary']['time_ratio']:.2f} times the training time",
        f"Softmax regression ended at {percent(statistics.mean(baselines), 1)} on validation data",
    )


def test_search():
    trials = RUNS[RUNS["experiment"] == "hyperparameters"].reset_index(drop=True)
    default = trials.loc[0]
    better = trials[trials["accuracy"] > default["accuracy"]]
    equal = trials[trials["accuracy"] == default["accuracy"]]
    assert (len(better), len(equal), len(trials)) == (2, 4, 16)
    says(
        "It shares third place of 16 with three others; the two before it, of twice its width, "
        "read one more digit in 6,000 for more than twice the training time"
    )
    assert list(better["filters"]) == 2 * [2 * default["filters"]]
    assert set(round(6000 * (better["accuracy"] - default["accuracy"]))) == {1}
    assert min(better["seconds"]) > 2 * default["seconds"]


def test_augmentation():
    pairs = {
        digits: [of("augmentation", name, digits=digits).mean(numeric_only=True)
                 for name in ("without", "with")]
        for digits in (1000, 5000, 54000)
    }  # fmt: skip
    few, more, all_of = (avoided(1 - a["accuracy"], 1 - b["accuracy"]) for a, b in pairs.values())
    without, with_it = pairs[54000]
    says(
        f"With 1,000 it removes {few} of the errors, with 5,000 {more}; with 54,000 it still "
        f"removes {all_of} of the errors (it is ahead with three seeds of five, level with two) "
        f"and {avoided(without['loss'], with_it['loss'])} of the loss",
        f"a full run only {percent(with_it['seconds'] / without['seconds'] - 1, 0)} longer",
    )
    with_it, without = (
        of("augmentation", name, digits=54000)["accuracy"].to_numpy()
        for name in ("with", "without")
    )
    assert ((with_it > without).sum(), (with_it == without).sum()) == (3, 2)


def test_architectures():
    names = ("all-convolutional", "this notebook", "residual", "Keras's convnet", "LeNet-5")
    table = [of("architectures", name)[["accuracy", "seconds"]].mean() for name in names]
    first, ours, residual, convnet, lenet5 = (percent(mean["accuracy"]) for mean in table)
    longer = of("augmentation", "with", digits=54000)
    says(
        f"network leads with {first}, this notebook's follows with {ours} for "
        f"{table[1]['seconds'] / table[0]['seconds']:.2f} times the time, and the residual one "
        f"reaches {residual}.",
        f"stand at {lenet5} and {convnet}.",
        f"given nine epochs and {longer['seconds'].mean():.0f} s, as in the experiment before, "
        f"this notebook's network also comes to {percent(longer['accuracy'].mean())}.",
    )
    assert first > ours > residual > convnet > lenet5


def test_transfer():
    runs = {
        (count, name): of("transfer", name, per_class=count)
        for count in (5, 10, 100)
        for name in ("frozen base", "from scratch")
    }
    means = {key: percent(group["accuracy"].mean(), 1) for key, group in runs.items()}
    spread = {key: 100 * group["accuracy"].std() for key, group in runs.items()}
    frozen, scratch = (5, "frozen base"), (5, "from scratch")
    says(
        f"With 5 examples of each new digit the frozen base reads {means[frozen]} and the network "
        f"from scratch {means[scratch]}, which is less than their scatter (standard deviations "
        f"{spread[frozen]:.1f} and {spread[scratch]:.1f} points), and with 10 they are level.",
        f"with 100 it reads {means[100, 'from scratch']} of the new digits, the frozen base "
        f"{means[100, 'frozen base']}, in less than half the time.",
    )
    for count in (5, 10):
        apart = [100 * runs[count, name]["accuracy"].mean() for _, name in (frozen, scratch)]
        assert abs(apart[0] - apart[1]) < max(spread[count, name] for _, name in (frozen, scratch))
    seconds = [runs[100, name]["seconds"].mean() for _, name in (frozen, scratch)]
    assert seconds[0] < seconds[1] / 2


def test_best_recipe():
    best, other = (of("best", name)["accuracy"] for name in ("best", "all-convolutional"))
    loss = of("best", "best")["loss"].mean()
    says(
        f"`best` reads {percent(best.mean())} of the test digits, with a standard deviation of "
        f"{100 * best.std():.2f} points, the all-convolutional network {percent(other.mean())} "
        f"({100 * other.std():.2f}), and the default network in half the time "
        f"{percent(OURS['test_accuracy'])}.",
        f"lowered the loss from {OURS['test_loss']:.4f} to {loss:.4f}",
    )
    for row in readme_tables.record("tried.json")["tried"]:
        says(f"| {row['change']} | {', '.join(map(str, row['errors']))} |")


def test_full_budget_takes_as_long_as_said():
    assert 1 < RUNS["seconds"].sum() / 3600 < 1.6  # and some minutes around the trainings
    says("which `python run.py --full` makes again in about an hour and a quarter")


def test_damage():
    """What the text says in words about the one run holds for the committed one."""
    printed, rows, kind = readme_tables.printed("robustness = {}"), {}, ""
    for line in re.findall(r"(?m)^.*(?:augmented|plain) .*$", printed):
        *names, a, b, c, d, e, f = line.split()
        kind, network = [kind, *names][-2:]
        rows[kind, network] = [float(value) for value in (a, b, c, d, e, f)]
    assert len(rows) == 16
    assert rows["translation", "augmented"][3] > 95
    assert rows["translation", "plain"][3] < 75
    for kind in ("translation", "rotation", "noise", "contrast", "attack"):
        step = 1 if kind == "contrast" else 3
        ahead = rows[kind, "augmented"][step] - rows[kind, "plain"][step]
        assert (ahead if kind in ("translation", "rotation") else -ahead) > 3, kind


def test_readme_is_made_from_the_records():
    assert readme_tables.render(README) == README


def test_readme_tables_leave_nothing_out():
    source = readme_tables.cell_with("\nEPOCHS = ").source
    assert readme_tables.parameters().count("\n") == 1 + len(source.splitlines())
    assert readme_tables.pictures().count("\n") == 1 + 4


def test_readme_pictures_are_small_and_that_of_the_errors_is_the_notebooks():
    links = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert sum((cells.ROOT / link).stat().st_size for link in links) < 150_000
    picture = np.asarray(Image.open(readme_tables.PICTURE).convert("RGB"), float)
    assert np.abs(picture - np.asarray(readme_tables.errors_figure())).mean() < 2


def test_readme_is_short_and_starts_with_the_two_commands():
    assert len(README.splitlines()) <= 140
    commands = re.findall(r"```bash\n(.+?)\n```", README)
    assert commands == ["python run.py", "python run.py test"]


def test_readme_names_options_that_run_py_has():
    options = set(re.findall(r"`(?:python run.py.*? )?(--(?!write|upgrade)\w+)`", README))
    known = (cells.ROOT / "run.py").read_text(encoding="utf-8").split('"""')[1]
    assert options == set(re.findall(r"--\w+", known))


def test_readme_gives_every_dependency_a_reason():
    named = re.findall(r"(?m)^\| ([a-z][\w, -]*) \| \w", README.split("| package | what for |")[1])
    listed = ", ".join(named).split(", ")
    text = (cells.ROOT / "requirements.in").read_text()
    assert sorted(listed) == sorted(re.findall(r"(?m)^([\w-]+)", text))


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (cells.ROOT / target).exists(), target


def test_readme_lines_read_a_digit(notebook):
    (lines,) = re.findall(r"```python\n(.+?)```", README, re.S)
    model = notebook.build_cnn()
    features = model.get_layer("features").output
    network = notebook.keras.Model(model.inputs, [features, model.outputs[0]])
    neighbors = notebook.NearestNeighbors(n_neighbors=10, metric="cosine").fit(np.eye(96))
    space = dict(vars(notebook), reader=notebook.Reader(network, neighbors, max_distance=0))
    picture = cells.ROOT / "examples" / "digit-5-ballpoint-08.jpg"
    lines = lines.replace('"photo.jpg"', repr(str(picture)))
    exec(lines, space)
    assert space["label"] == notebook.NOT_SURE
