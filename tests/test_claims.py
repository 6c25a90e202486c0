"""Every number in the README and in the notebook's text is one that a run gave."""

import re
import sys

import cells
import numpy as np
import pandas as pd
import tensorflow
from PIL import Image

sys.path.insert(0, str(cells.ROOT / "benchmarks"))
import exercises  # noqa: E402
import peers  # noqa: E402
import readme_tables  # noqa: E402

README = readme_tables.README.read_text(encoding="utf-8")
TEXT = "\n".join(cell.source for cell in cells.read().cells if cell.cell_type == "markdown")
RUNS = pd.read_json(cells.ROOT / "benchmarks" / "extensions.jsonl", lines=True)
PEERS = pd.read_json(cells.ROOT / "benchmarks" / "peers.jsonl", lines=True)
SOLVED = pd.read_json(cells.ROOT / "benchmarks" / "exercises.jsonl", lines=True)


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


def count(runs, name):
    number = (None, "one", "two", "three", "four", "five")[len(runs)]
    return f"{number} {name}{'s' * (len(runs) > 1)}"


def peer(name, epochs):
    """Return the recorded runs of a network at a number of epochs."""
    return PEERS[(PEERS["variant"] == name) & (PEERS["epochs"] == epochs)]


OURS, REFERENCE = peer("this notebook", peers.EPOCHS), peer("Keras's convnet", 15)
MEAN, SD, OTHER = (
    OURS.mean(numeric_only=True), OURS.std(numeric_only=True), REFERENCE.mean(numeric_only=True)
)  # fmt: skip


def test_committed_run_agrees_with_itself_and_with_the_record():
    loss, accuracy, low, high, errors = map(float, readme_tables.evaluation())
    assert accuracy == round(1 - errors / 10000, 4)
    assert low < accuracy < high
    assert abs(accuracy - MEAN["accuracy"]) < 0.0012  # the band of the notebook's last cell
    assert abs(loss - MEAN["loss"]) < 0.003


def test_opening_and_conclusion():
    fewer = avoided(1 - OTHER["accuracy"], 1 - MEAN["accuracy"])
    assert set(PEERS["tensorflow"]) == {tensorflow.__version__}
    says(
        f"**{percent(MEAN['accuracy'])} of MNIST's 10,000 test digits** correctly "
        f"(mean of {len(OURS)} seeds, standard deviation {100 * SD['accuracy']:.2f} "
        f"points; loss {MEAN['loss']:.4f}) after {MEAN['seconds']:.0f} s of training on two "
        f"CPU cores with TensorFlow {tensorflow.__version__}",
        f"Over {len(OURS)} seeds this network reached a mean test accuracy of "
        f"{percent(MEAN['accuracy'])} and a loss of {MEAN['loss']:.4f}.",
        f"reached {percent(OTHER['accuracy'])} and {OTHER['loss']:.4f} ({count(REFERENCE, 'seed')})"
        f": that is {fewer} fewer errors in {MEAN['seconds'] / OTHER['seconds']:.2f} times the "
        f"training time",
        f"Softmax regression ended at {percent(MEAN['baseline_accuracy'], 1)} on validation data",
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
    means = {
        (digits, name): of("augmentation", name, digits=digits).mean(numeric_only=True)
        for digits in (1000, 5000, 54000)
        for name in ("none", "geometric", "all")
    }
    few, more, most = (
        avoided(1 - means[digits, "none"]["accuracy"], 1 - means[digits, "geometric"]["accuracy"])
        for digits in (1000, 5000, 54000)
    )
    says(
        f"With 1,000 the geometric variation removes {few} of the errors, with 5,000 {more}; with "
        f"54,000 it still removes {most} of the errors",
        f"With 1,000 digits they help further, to {percent(means[1000, 'all']['accuracy'])}; with "
        f"all they make no difference, {percent(means[54000, 'all']['accuracy'])} against "
        f"{percent(means[54000, 'geometric']['accuracy'])}.",
    )
    assert means[1000, "all"]["accuracy"] > means[1000, "geometric"]["accuracy"]


def test_architectures():
    names = ("all-convolutional", "this notebook", "residual")
    table = [of("architectures", name)[["accuracy", "seconds"]].mean() for name in names]
    first, ours, residual = (percent(mean["accuracy"]) for mean in table)
    longer = of("augmentation", "geometric", digits=54000)
    says(
        f"network leads with {first}, this notebook's follows with {ours} for "
        f"{table[1]['seconds'] / table[0]['seconds']:.2f} times the time, and the residual one "
        f"reaches {residual}.",
        f"given nine epochs and {longer['seconds'].mean():.0f} s, as in the experiment before, "
        f"this notebook's network also comes to {percent(longer['accuracy'].mean())}.",
    )
    assert first > ours > residual


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


def test_peers():
    two, classic, vote = peer("this notebook", 2), peer("LeNet-5", 15), peer("best", 14)
    last = peer("this notebook", 16)
    other, long = peer("PyTorch's example", 14), peer("Deotte's", 30)
    early, lenet5, best, torch, deotte = (
        runs.mean(numeric_only=True) for runs in (two, classic, vote, other, long)
    )
    assert len(other) == len(long) == 1
    says(
        f"Two epochs of this notebook's network, {early['seconds']:.0f} s, read "
        f"{percent(early['accuracy'])} of the test digits; the Keras documentation's convnet "
        f"reads {percent(OTHER['accuracy'])} after its 15, {OTHER['seconds']:.0f} s, LeNet-5 "
        f"{percent(lenet5['accuracy'])} after 15, {lenet5['seconds']:.0f} s, the recipe of "
        f"PyTorch's examples {percent(torch['accuracy'])} after 14, {torch['seconds']:.0f} s, and "
        f"Deotte's network {percent(deotte['accuracy'])} after 30, {deotte['seconds']:.0f} s "
        "(these two: one seed each).",
        "This notebook's curve lies above every peer's mark at its times, and its end, at "
        f"{last['seconds'].mean():.0f} s, above those that stand later; Deotte's network comes "
        f"level with its eight epochs, after {deotte['seconds'] / MEAN['seconds']:.0f} times their "
        "time.",
        f"`best`, the vote, reads {percent(best['accuracy'], 3)} "
        f"({count(vote, 'vote')}, standard deviation {100 * vote['accuracy'].std():.2f} points) "
        f"after {best['seconds']:.0f} s",
    )
    assert early["accuracy"] > max(row["accuracy"] for row in (OTHER, lenet5, torch))
    means = PEERS.groupby(["variant", "epochs"])[["seconds", "accuracy"]].mean()
    mine = means.loc["this notebook"].sort_values("seconds")
    assert abs(deotte["accuracy"] - MEAN["accuracy"]) < 0.0002
    assert best["seconds"] < OTHER["seconds"]
    for _, (seconds, accuracy) in means.drop(["this notebook", "best"], level=0).iterrows():
        assert accuracy < mine[mine["seconds"] <= seconds]["accuracy"].max(), "a peer lies above"
    for row in readme_tables.record("tried.json")["tried"]:
        says(f"| {row['change']} | {', '.join(map(str, row['errors']))} |")


def solved(name):
    """Return the means of an exercise's runs, with `wrong`, its mean errors by true digit."""
    runs = SOLVED[SOLVED["exercise"] == name]
    assert len(runs) == 3, f"exercise {name} was recorded for {len(runs)} seeds, not 3"
    mean = runs.mean(numeric_only=True)
    return mean, np.mean(runs["errors"].to_list(), axis=0)


def test_solutions_of_the_exercises():
    (default, wrong), (none, _), (_, still) = map(solved, ("default", "1", "4"))
    by_epochs = [peer("this notebook", epochs)["accuracy"].mean() for epochs in (1, 2, 4, 8, 16)]
    kept, bare = (
        ", ".join(
            percent(solved(f"3 {kind}, {rate}")[0]["accuracy"], 1) for rate in exercises.RATES
        )
        for kind in ("with", "without")
    )
    wider, weights = solved("5")[0]["accuracy"], solved("5")[0]["parameters"] / none["parameters"]
    ours = of("architectures", "this notebook")["accuracy"].mean()
    says(
        f"its loss ends at {none['training_loss']:.4f} instead of {default['training_loss']:.3f}",
        f"The validation loss ends at {none['loss']:.4f} instead of {default['loss']:.4f}",
        f"read {', '.join(f'{100 * a:.2f}' for a in by_epochs)} % of the test digits",
        f"with normalization it reads {kept} of the validation digits, without it {bare}.",
        f"of the {wrong.sum():.1f} validation digits that the default network misreads, "
        f"{wrong[[7, 8]].sum():.1f} are one of these",
        f"Shown twice, {still[[7, 8]].sum():.1f} of them are misread, and {still.sum():.1f} of all",
        f"it reads {percent(wider)} of the validation digits, against {percent(ours)} as it is, "
        f"for {weights:.1f} times the weights: four digits of 6,000.",
    )
    assert by_epochs[:4] == sorted(by_epochs[:4])
    assert by_epochs[4] < by_epochs[3] + 0.0005
    assert round(6000 * (wider - ours)) == 4
    assert set(np.argsort(wrong)[-2:]) == set(exercises.OFTEN)


def test_work_of_deottes_network(notebook):
    images, default = 54000 * 30, OURS["flops"].iloc[0]
    work = peers.training_flops(peers.deotte(notebook)[0], images) / default
    says(f"(30 epochs, {work:.0f} times the default's work)")


def test_full_budget_takes_as_long_as_said():
    assert 1 < RUNS["seconds"].sum() / 3600 < 1.6  # and some minutes around the trainings
    says("`python run.py --full` makes those of the experiments again in an hour or more")


def test_damage():
    """Means over seeds are recorded; what the text says in words holds for the committed run."""
    names = ("noise 0.3", "contrast 0.2", "blur 1.5", "attack 0.1")
    noise, contrast, blur, attack = (f"{MEAN[name]:.1f} %" for name in names)
    moved, turned, hidden = (
        f"{MEAN[name]:.1f} %" for name in ("translation 3", "rotation 30", "occlusion 10")
    )
    says(
        f"Over {len(OURS)} seeds it reads {noise} under noise of 0.3, {contrast} at a contrast of "
        f"0.2, {blur} through a blur of 1.5 pixels, {attack} under an attack of 0.1, {moved} moved "
        f"by 3 pixels, {turned} turned by 30 degrees, and {hidden} behind a square of 10 pixels."
    )
    printed, rows, kind = readme_tables.printed("robustness = {}"), {}, ""
    for line in re.findall(r"(?m)^.*(?:all|geometric|none) .*$", printed):
        *words, a, b, c, d, e, f = line.split()
        kind, network = [kind, *words][-2:]
        rows[kind, network] = [float(value) for value in (a, b, c, d, e, f)]
    assert len(rows) == 24
    assert rows["translation", "all"][3] > 95
    assert rows["translation", "none"][3] < 75
    for kind in ("translation", "rotation"):
        assert rows[kind, "all"][3] > rows[kind, "none"][3] + 3, kind
    for kind in ("noise", "contrast", "attack"):
        step = 1 if kind == "contrast" else 3
        given = {name: rows[kind, name][step] for name in ("all", "none", "geometric")}
        assert given["all"] > given["none"] > given["geometric"] + 3, kind
    assert rows["blur", "all"][3] > max(rows["blur", name][3] for name in ("none", "geometric")) + 3


def test_readme_is_made_from_the_records():
    assert readme_tables.render(README) == README


def test_readme_tables_leave_nothing_out():
    source = readme_tables.cell_with("\nEPOCHS = ").source
    assert readme_tables.parameters().count("\n") == 1 + len(source.splitlines())
    assert readme_tables.pictures().count("\n") == 1 + 4


def test_readme_pictures_are_small_and_the_notebooks_figures():
    links = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert sum((cells.ROOT / link).stat().st_size for link in links) < 150_000
    for name, text in readme_tables.PICTURES.items():
        picture = np.asarray(Image.open(cells.ROOT / "docs" / name).convert("RGB"), float)
        assert np.abs(picture - np.asarray(readme_tables.figure(text))).mean() < 2, name


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
    neighbors = notebook.NearestNeighbors(n_neighbors=5, metric="cosine").fit(np.eye(96))
    space = dict(vars(notebook), reader=notebook.Reader(network, neighbors, max_distance=0))
    picture = cells.ROOT / "examples" / "digit-5-ballpoint-08.jpg"
    lines = lines.replace('"photo.jpg"', repr(str(picture)))
    exec(lines, space)
    assert space["label"] == notebook.NOT_SURE
