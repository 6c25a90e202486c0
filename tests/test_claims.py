"""Every number in the README and in the notebook's text is one that a run gave."""

import json
import re
import statistics

import cells

README = (cells.ROOT / "README.md").read_text()
RECORD = json.loads((cells.ROOT / "benchmarks" / "results.json").read_text())
SUMMARY = RECORD["summary"]
OURS, REFERENCE = SUMMARY["notebook"], SUMMARY["reference"]


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
    values = {"True": "1", "False": "0"}
    return "\n".join(
        f"| `MNIST_{name}` | {values.get(default, default)} | {comment} |"
        for name, default, comment in found
    )


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
