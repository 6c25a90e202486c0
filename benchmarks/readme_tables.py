"""Write into the README what comes from records, and save its pictures of the notebook.

    .venv/bin/python benchmarks/readme_tables.py

Each part stands between comments such as <!-- results --> and <!-- /results -->. `run.py --update`
calls this after it has renewed the notebook.
"""

import base64
import io
import json
import re
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import cells  # noqa: E402

README, DOCS, RECORDS = (cells.ROOT / name for name in ("README.md", "docs", "benchmarks"))
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"  # Okabe and Ito (2008)
MARKS = {  # network: its marks and colour
    "this notebook": ("o-", BLUE),
    "best": ("*", BLUE),
    "Keras's convnet": ("s", ORANGE),
    "LeNet-5": ("^", GREEN),
    "PyTorch's example": ("D", GREY),
    "Deotte's": ("P", "black"),
}
PUBLISHED = 0.99641  # mean of Deotte's 1,500 trainings of one network, as he published it


def printed(text):
    """Return what the notebook's one code cell that holds `text` printed in the committed run."""
    return "".join(output.get("text", "") for output in cells.find(text)[1].outputs)


def table(heads, rows):
    """Return a Markdown table; columns whose head begins with ">" are aligned to the right."""
    marks = ["---:" if head.startswith(">") else "---" for head in heads]
    lines = [[head.lstrip(">") for head in heads], marks, *rows]
    return "\n".join("| " + " | ".join(map(str, line)).rstrip() + " |" for line in lines)


def evaluation():
    """Return loss, accuracy, its interval and the errors, as the committed run printed them."""
    pattern = r"loss +(\S+)\n.*accuracy +(\S+) +\(95 % interval (\S+) to (\S+)\)\nerrors +(\d+) of"
    return re.search(pattern, printed("model.evaluate(x_test")).groups()


def peers():
    """Return the recorded runs with `time`: their seconds in units of Keras's convnet's.

    Its fifteen epochs were trained in turn with the others on each machine, so this ratio can be
    compared between machines, and seconds cannot.
    """
    runs = pd.read_json(RECORDS / "peers.jsonl", lines=True)
    unit = runs[runs["variant"] == "Keras's convnet"].groupby("machine")["seconds"].median()
    return runs.assign(time=runs["seconds"] / runs["machine"].map(unit))


def spread(values, form):
    """Return the median of `values`, and the lowest and highest of them if there are several."""
    low, middle, high = (form.format(values.quantile(share)) for share in (0, 0.5, 1))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def results():
    """How the networks read the test digits: the committed run, then recorded runs over seeds."""
    loss, accuracy, low, high, errors = evaluation()
    runs, rows = peers(), []
    for (name, epochs), group in runs.groupby(["variant", "epochs"], sort=False):
        metrics = (spread(group[metric], "{:.4f}") for metric in ("accuracy", "loss"))
        rows.append([name, epochs, len(group), *metrics, spread(group["time"], "{:.2f}")])
    ours = runs[runs["variant"] == "this notebook"]
    ours = ours[ours["epochs"] == ours["epochs"].iloc[-1]].groupby("machine")["seconds"].median()
    times = " and ".join(f"{seconds:.0f} s ({machine})" for machine, seconds in ours.items())
    text = (
        f"The committed run: test accuracy **{accuracy}** (95 % interval {low} to {high}), loss "
        f"{loss}, {errors} errors in 10,000. In the table: median, lowest and highest of runs with "
        "other seeds; time is that of training, in units of the fifteen epochs of Keras's convnet "
        f"on the same machine. The notebook's default took {times}."
    )
    text = textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
    heads = ["network", ">epochs", ">runs", ">test accuracy", ">test loss", ">time"]
    return f"{text}\n\n{table(heads, rows)}"


def pictures():
    """How the committed run read the pictures that it makes itself."""
    heads = ["pictures", ">number", ">not sure", ">answered wrongly", ">best guess right"]
    pattern = r"(?m)^(\S.*?)  +(\d+) +(\S+ %) +(\S+ %) +(\S+ %)$"
    rows = re.findall(pattern, printed("answered wrongly"))
    return table(heads, [[*row, "" if right == "0.0 %" else right] for *row, right in rows])


def real():
    """How real pictures by other people were read, by kind, where there are 20 or more."""
    rows = []
    for kind, row in json.loads((RECORDS / "pictures.json").read_text())["kinds"].items():
        if row["n"] < 20 or kind in ("page", "letter, no digit"):  # they are among the sums
            continue
        counts = [f"{100 * row[name] / row['n']:.1f} %" if name in row else ""
                  for name in ("not sure", "wrong", "right")]  # fmt: skip
        if "digits" in row:
            share = f"{100 * row['digits right'] / row['digits']:.1f} % of digits"
            counts = ["", "", f"{share}, {row['exact']} exact"]
        elif "no digit" in kind:
            counts[2] = ""
        rows.append([kind, row["n"], *counts, f"{row['ms']:.0f} ms"])
    heads = ["kind", ">number", ">not sure", ">answered wrongly", ">best guess right", ">time"]
    return table(heads, rows)


def settings():
    """The settings cell as a table."""
    pattern = r'(?m)^(\w+) = (?:os\S+ )?"?(.+?)"?\)?  # (.+)$'
    rows = re.findall(pattern, cells.code_cells("parameters")[0][1].source)
    return table(["setting", "default", "meaning"], [[f"`{n}`", *rest] for n, *rest in rows])


def render(text):
    """Return the README `text` with each part made anew."""
    for part in (results, pictures, real, settings):
        start, end = f"<!-- {part.__name__} -->\n", f"<!-- /{part.__name__} -->"
        before, rest = text.split(start)
        text = f"{before}{start}{part()}\n{end}{rest.split(end)[1]}"
    return text


def misread():
    """Return the committed notebook's figure of errors as an image."""
    outputs = cells.find("most confident errors")[1].outputs
    data = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})][-1]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").quantize(64)


def figure(runs):
    """Return a figure of `runs` (see `peers`): medians of accuracy and time."""
    plt.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False})
    fig, axis = plt.subplots(figsize=(7.5, 5), layout="constrained")
    for name, group in runs.groupby("variant", sort=False):
        points = group.groupby("epochs")[["time", "accuracy"]].median()
        mark, color = MARKS[name]
        axis.plot(points["time"], 1 - points["accuracy"], mark, ms=9, color=color, label=name)
    axis.axhline(1 - PUBLISHED, color="black", ls=":", label="Deotte's, as published")
    axis.set(xscale="log", yscale="log", ylabel="test accuracy (%)")
    axis.set(title="Test accuracy against training time", xlabel="time (1: Keras's convnet)")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    axis.yaxis.set_major_formatter(lambda error, _: f"{100 - 100 * error:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.invert_yaxis()  # logarithmic in the errors, and the fewest on top
    fig.legend(loc="outside lower center", ncols=3, frameon=False)
    return fig


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    misread().save(DOCS / "errors.png", optimize=True)
    figure(peers()).savefig(DOCS / "accuracy-against-time.png", dpi=110)
    print("Written: README.md, docs/errors.png, docs/accuracy-against-time.png")
