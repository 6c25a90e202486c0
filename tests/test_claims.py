"""Every number in the README and in the notebook's text is one that a run gave."""

import json
import re
import statistics

import cells
import pandas as pd

README = (cells.ROOT / "README.md").read_text()
RECORD = json.loads((cells.ROOT / "benchmarks" / "results.json").read_text())
SUMMARY = RECORD["summary"]
OURS, REFERENCE = SUMMARY["notebook"], SUMMARY["reference"]
LINES = (cells.ROOT / "benchmarks" / "extensions.jsonl").read_text().splitlines()
RUNS = pd.DataFrame([json.loads(line) for line in LINES[1:]])
TRIED = json.loads((cells.ROOT / "benchmarks" / "tried.json").read_text())["tried"]


def percent(value, digits=2):
    return f"{100 * value:.{digits}f} %"


def markdown_with(text):
    """Return the source of the one markdown cell that holds `text`."""
    (source,) = [
        c.source for c in cells.read().cells if c.cell_type == "markdown" and text in c.source
    ]
    return source


def evaluation():
    """Return the numbers that the committed run printed about the test set."""
    text = printed("= model.evaluate(test_data")
    names = ("loss", "accuracy", "low", "high", "errors")
    numbers = re.search(
        r"loss\s+(\S+)\n.*accuracy\s+(\S+)\s+\(95 % interval (\S+) to (\S+)\)\nerrors\s+(\d+) of",
        text,
    )
    return dict(zip(names, numbers.groups()))


def results_table():
    """Return the README's results: the committed run, then the comparison over seeds."""
    run = evaluation()
    rows = [
        f"The committed run (seed 1): test accuracy **{run['accuracy']}** (95 % interval "
        f"{run['low']} to {run['high']}),\nloss **{run['loss']}**, {run['errors']} errors "
        "in 10,000.\n",
        "Over several seeds, in turn with the Keras documentation's *Simple MNIST convnet* "
        "(15 epochs) on one\nmachine: mean and standard deviation on the test set, median of "
        "the training time.\n",
        "| | seeds | test accuracy | test loss | training |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in (("this notebook", OURS), ("reference", REFERENCE)):
        accuracy, loss = (
            f"{row[metric]:.4f} ± {row[f'{metric}_sd']:.4f}"
            for metric in ("test_accuracy", "test_loss")
        )
        rows.append(
            f"| {name} | {row['seeds']} | {accuracy} | {loss} | {row['fit_seconds']:.0f} s |"
        )
    rows.append(
        f"\nThe median ratio of the training times is {SUMMARY['time_ratio']:.2f} "
        f"({RECORD['machine']}, TensorFlow {RECORD['versions']['tensorflow']})."
    )
    return "\n".join(rows)


def printed(text):
    """Return what the one code cell that holds `text` printed in the committed run."""
    ((_, cell),) = [c for c in cells.code_cells() if text in c[1].source]
    return "".join(output.get("text", "") for output in cell.outputs)


def reading_table():
    """Return the README's table of how pictures were read, from the committed run."""
    rows = ["| pictures | number | not sure | answered wrongly | best guess right |"]
    rows.append("| --- | ---: | ---: | ---: | ---: |")
    pattern = (
        r"(?m)^(\S.*?)  +(\d+)  not sure +(\S+) %, answered wrongly +(\S+) %"
        r"(?:, best guess right +(\S+) %)?$"
    )
    for name, count, unsure, wrong, right in re.findall(
        pattern, printed("small_digits = load_digits()")
    ):
        rows.append(
            f"| {name} | {count} | {unsure} % | {wrong} % | {right + ' %' if right else ''} |"
        )
    assert len(rows) == 6
    return "\n".join(rows)


def parameter_rows():
    """Return the README's rows about the parameters, made from their cell."""
    ((_, cell),) = cells.code_cells("parameters")
    pattern = r'(?m)^\w+ = from_environment\("(\w+)", ([^,)]+).*?\)\s+# (.+)$'
    found = re.findall(pattern, cell.source)
    assert len(found) == len(cell.source.splitlines())
    values = {"True": "1", "False": "0", '"small"': "small"}
    return "\n".join(
        f"| `MNIST_{name}` | {values.get(default, default)} | {comment} |"
        for name, default, comment in found
    )


def runs(experiment, column="accuracy", **key):
    """Return `column` of the recorded runs of `experiment` with the values in `key`."""
    chosen = RUNS[RUNS["experiment"] == experiment]
    for name, value in key.items():
        chosen = chosen[chosen[name.replace("_", " ")] == value]
    assert len(chosen)
    return chosen[column]


def fewer(experiment, better, worse, column="accuracy", **key):
    """Return the share of the errors (or of a loss) of `worse` that `better` avoids, as text."""
    values = [runs(experiment, column, variant=name, **key).mean() for name in (better, worse)]
    if column == "accuracy":
        values = [1 - value for value in values]
    return percent(1 - values[0] / values[1], 0)


def best_table():
    """Return the README's table of the last recipes, from the recorded runs."""
    rows = ["| recipe | epochs | test accuracy | each seed | test loss | training |"]
    rows.append("| --- | ---: | ---: | --- | ---: | ---: |")
    for name in ("best", "all-convolutional"):
        accuracy, loss, seconds, epochs = (
            runs("best", column, variant=name)
            for column in ("accuracy", "loss", "seconds", "epochs")
        )
        each = ", ".join(f"{value:.4f}" for value in accuracy)
        mean = f"{accuracy.mean():.4f} ± {accuracy.std():.4f}"
        rows.append(
            f"| `{name}` | {epochs.iloc[0]} | {mean} | {each} | {loss.mean():.4f} "
            f"| {seconds.mean():.0f} s |"
        )
    return "\n".join(rows)


def tried_table():
    """Return the notebook's table of what was tried for `best`, from its file."""
    rows = ["| change to the default network | errors in 10,000, each seed |", "| --- | --- |"]
    rows += [f"| {row['change']} | {', '.join(map(str, row['errors']))} |" for row in TRIED]
    return "\n".join(rows)


def test_record_is_summarized_rightly():
    for row, summary in (("notebook", OURS), ("reference", REFERENCE)):
        runs = [run for run in RECORD["runs"] if run["row"] == row]
        assert sorted(run["seed"] for run in runs) == list(range(1, summary["seeds"] + 1))
        for metric in ("test_accuracy", "test_loss"):
            values = [run[metric] for run in runs]
            assert summary[metric] == statistics.mean(values)
            assert summary[f"{metric}_sd"] == statistics.stdev(values)


def test_committed_run_is_that_of_the_record():
    run = next(r for r in RECORD["runs"] if r["row"] == "notebook" and r["seed"] == 1)
    assert float(evaluation()["accuracy"]) == round(run["test_accuracy"], 4)
    assert float(evaluation()["loss"]) == round(run["test_loss"], 4)


def test_opening_claim():
    text = markdown_with("\n1. [Imports]")
    assert f"**{percent(OURS['test_accuracy'])} of MNIST's 10,000 test digits" in text
    assert f"mean of {OURS['seeds']} seeds" in text
    assert f"deviation {100 * OURS['test_accuracy_sd']:.2f} points" in text
    assert f"loss {OURS['test_loss']:.4f}" in text
    assert f"after {OURS['fit_seconds']:.0f} s of training" in text
    assert f"TensorFlow {RECORD['versions']['tensorflow']}" in text


def test_conclusion():
    text = markdown_with("## Conclusion")
    assert f"{percent(OURS['test_accuracy'])} and a loss of {OURS['test_loss']:.4f}" in text
    assert f"reached {percent(REFERENCE['test_accuracy'])} and {REFERENCE['test_loss']:.4f}" in text
    fewer = 1 - (1 - OURS["test_accuracy"]) / (1 - REFERENCE["test_accuracy"])
    assert f"{percent(fewer, 0)} fewer errors in {SUMMARY['time_ratio']:.2f} times" in text
    baseline = [r["baseline_accuracy"] for r in RECORD["runs"] if r["row"] == "notebook"]
    assert f"ended at {percent(statistics.mean(baseline), 1)} on validation" in text


def test_readme_results_and_parameters():
    assert results_table() in README
    assert reading_table() in README
    assert parameter_rows() in README


def test_readme_starts_with_the_two_commands():
    commands = re.findall(r"```bash\n(.+?)\n```", README)
    assert commands[:2] == ["python run.py", "python run.py test"]


def test_readme_gives_every_dependency_a_reason():
    table = README.split("## Dependencies")[1]
    named = re.findall(r"(?m)^\| ([a-z][\w, -]*) \|", table)
    listed = {name for row in named for name in row.split(", ")} - {"package"}
    text = (cells.ROOT / "requirements.in").read_text()
    assert listed == set(re.findall(r"(?m)^([\w-]+)", text))


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (cells.ROOT / target).exists(), target


def test_best_recipes():
    assert best_table() in README
    text = markdown_with("did not help")
    assert tried_table() in text
    accuracy, loss = (runs("best", column, variant="best") for column in ("accuracy", "loss"))
    other = runs("best", variant="all-convolutional")
    assert f"`best` reads {percent(accuracy.mean())} of the test digits" in text
    assert f"standard deviation of {100 * accuracy.std():.2f} points" in text
    assert (
        f"the all-convolutional network {percent(other.mean())} ({100 * other.std():.2f})" in text
    )
    assert f"default network in half the time {percent(OURS['test_accuracy'])}" in text
    assert f"from {OURS['test_loss']:.4f} to {loss.mean():.4f}" in text


def test_full_budget_takes_as_long_as_said():
    assert 1.1 < RUNS["seconds"].sum() / 3600 < 1.6  # and some minutes around the trainings
    assert "makes it again, in about an hour and a half" in " ".join(README.split())
    assert "makes again in about an hour and a half" in markdown_with("## 11. Extensions")


def test_search_conclusion():
    text = markdown_with("the ring marks this notebook's choice")
    trials = RUNS[RUNS["experiment"] == "hyperparameters"].reset_index(drop=True)
    ranked = trials.sort_values("accuracy", ascending=False, kind="stable")
    rank = 1 + ranked.index.get_loc(0)
    assert f"ranks {rank} of {len(trials)}" in text
    before, default = ranked[: rank - 1], trials.loc[0]
    assert len(before) == 2 and set(before["filters"]) == {2 * default["filters"]}
    assert set(round(6000 * (before["accuracy"] - default["accuracy"]))) == {1}
    assert min(before["seconds"]) > 2 * default["seconds"]
    columns = ["filters", "kernel_size", "dropout", "peak_rate", "batch_size", "accuracy"]
    correlation = trials[columns].corr("spearman")["accuracy"].round(2)
    assert f"correlation {correlation['peak_rate']} for each" in text
    assert correlation["filters"] == correlation["peak_rate"]
    assert f"batches go against it ({correlation['batch_size']})" in text
    assert f"hardly matters ({correlation['kernel_size']})" in text


def test_affine_map_is_faster_than_layers():
    assert "less than half the time" in markdown_with("under the same kinds of motion")
    ours, layers = re.findall(r"([\d.]+) ms for a batch", printed("seconds_per_batch(lambda"))
    assert float(ours) < float(layers) / 2


def test_augmentation_conclusion():
    text = markdown_with("the more augmentation is worth")
    few, more, all_of = (
        fewer("augmentation", "with", "without", digits=digits) for digits in (1000, 5000, 54000)
    )
    assert f"With 1,000 it removes {few} of the errors, with 5,000 {more}" in text
    loss = fewer("augmentation", "with", "without", "loss", digits=54000)
    assert f"still removes {all_of} of the errors and {loss} of the loss" in text
    times = [
        runs("augmentation", "seconds", variant=name, digits=54000).mean()
        for name in ("with", "without")
    ]
    assert f"only {percent(times[0] / times[1] - 1, 0)} longer" in text
    for digits in (1000, 5000, 54000):
        with_it, longer = (
            runs("augmentation", variant=name, digits=digits).mean()
            for name in ("with", "without, equal time")
        )
        assert with_it > longer


def test_architecture_conclusion():
    text = markdown_with("the all-convolutional network leads")
    names = ("all-convolutional", "this notebook", "residual", "LeNet-5", "Keras's convnet")
    means = [runs("architectures", variant=name).mean() for name in names]
    assert means == sorted(means[:3], reverse=True) + sorted(means[3:])
    first, second, third, lenet5, convnet = map(percent, means)
    assert f"leads with {first}, this notebook's follows with {second}" in text
    seconds = [runs("architectures", "seconds", variant=name).mean() for name in names]
    assert f"for {seconds[1] / seconds[0]:.2f} times the time" in text
    assert f"the residual one reaches {third}" in text
    assert f"stand at {lenet5} and {convnet}." in text
    key = {"variant": "with", "digits": 54000}
    longer = runs("augmentation", **key).mean()
    assert f"{runs('augmentation', 'seconds', **key).mean():.0f} s, as in" in text
    assert f"also comes to {percent(longer)}" in text


def test_transfer_conclusion():
    text = markdown_with("almost nothing else to learn from")
    frozen, scratch = "frozen base", "from scratch"
    accuracy = {
        (name, count): runs("transfer", variant=name, per_class=count)
        for name in (frozen, scratch)
        for count in (5, 10, 100)
    }
    few = [percent(accuracy[name, 5].mean(), 1) for name in (frozen, scratch)]
    assert f"is ahead, {few[0]} against {few[1]}" in text
    spread = [accuracy[name, 5].std() for name in (frozen, scratch)]
    assert 0.4 < spread[0] / spread[1] < 0.6
    assert f"{100 * spread[0]:.1f} points against {100 * spread[1]:.1f}" in text
    level = accuracy[frozen, 10].mean() - accuracy[scratch, 10].mean()
    assert abs(level) < min(accuracy[name, 10].std() for name in (frozen, scratch))
    many = [percent(accuracy[name, 100].mean(), 1) for name in (frozen, scratch)]
    assert f"reads {many[1]} of the new digits, the frozen base {many[0]}" in text
    seconds = [
        runs("transfer", "seconds", variant=name, per_class=100).mean()
        for name in (frozen, scratch)
    ]
    assert seconds[0] < seconds[1] / 2


def robustness():
    """Return {(kind, network): accuracies in % after the steps 0 to 5} of the committed run."""
    rows, kind = {}, None
    for line in printed("robustness = pd.DataFrame").splitlines()[2:]:
        *names, a, b, c, d, e, f = line.split()
        kind, network = names if len(names) == 2 else (kind, *names)
        rows[kind, network] = [float(value) for value in (a, b, c, d, e, f)]
    assert len(rows) == 16
    return rows


def test_what_is_said_about_damage():
    text, rows = markdown_with("it gets worse. What augmentation has shown"), robustness()
    for kind, step, words in [
        ("translation", 3, "moved by 3 pixels (in training at most 2) it reads {} %, without "
         "augmentation {} %"),
        ("rotation", 3, "turned by 30 degrees (in training at most 11) {} % against {} %"),
        ("noise", 3, "noise of 0.3 leaves {} % against {} %"),
        ("contrast", 1, "a contrast of 0.8 leaves {} % against {} %"),
        ("attack", 3, "an attack of 0.1 leaves {} % against {} %"),
    ]:  # fmt: skip
        augmented, plain = rows[kind, "augmented"][step], rows[kind, "plain"][step]
        assert words.format(augmented, plain) in text
        assert (augmented > plain) == (kind in ("translation", "rotation"))
    table = ["| damage | with augmentation | without |", "| --- | ---: | ---: |"]
    for kind, step, name in [
        ("none", 0, "none"), ("translation", 3, "moved by 3 pixels"),
        ("rotation", 3, "turned by 30 degrees"), ("scale", 4, "at 0.6 of its size"),
        ("blur", 2, "blur, sigma 1 pixel"), ("occlusion", 3, "a square of 10 pixels hidden"),
        ("noise", 3, "noise, sigma 0.3"), ("contrast", 1, "contrast 0.8"),
        ("attack", 3, "attack (FGSM), 0.1 for each pixel"),
    ]:  # fmt: skip
        kind = "noise" if kind == "none" else kind
        values = [rows[kind, network][step] for network in ("augmented", "plain")]
        table.append(f"| {name} | {values[0]} % | {values[1]} % |")
    assert "\n".join(table) in README
