"""Write into the README what comes from records, and save its pictures of the notebook.

    .venv/bin/python benchmarks/readme_tables.py

Each part stands between comments such as <!-- results --> and <!-- /results -->. `run.py --update`
calls this after it has renewed the notebook.
"""

import base64
import io
import json
import re
import textwrap
from pathlib import Path

import nbformat
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PICTURES = {  # file: a text of the cell that draws it
    "errors.png": "The most confident errors",
    "accuracy-against-time.png": "Test accuracy against training time",
}


def record(name):
    return json.loads((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))


def cell_with(text):
    """Return the notebook's one code cell that holds `text`."""
    cells = nbformat.read(ROOT / "Digitclassification.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if cell.cell_type == "code" and text in cell.source]
    return cell


def printed(text):
    """Return what the one code cell that holds `text` printed in the committed run."""
    return "".join(output.get("text", "") for output in cell_with(text).outputs)


def paragraph(*sentences):
    return textwrap.fill(" ".join(sentences), 100, break_long_words=False, break_on_hyphens=False)


def table(heads, rows):
    """Return a Markdown table; columns whose head begins with ">" are aligned to the right."""
    marks = ["---:" if head.startswith(">") else "---" for head in heads]
    lines = [[head.lstrip(">") for head in heads], marks, *rows]
    return "\n".join("| " + " | ".join(map(str, line)).rstrip() + " |" for line in lines)


def needs():
    """What the notebook needs of a machine."""
    load = record("load.json")
    rows = {row["images"]: row for row in load["predict_digits"]}
    return paragraph(
        "Needs Python 3.11, 3.12 or 3.13; the first run downloads 0.9 GB and makes `.venv`,",
        f"3.2 GB. Training takes at most {load['training_peak_mib'] / 1024:.1f} GiB of memory.",
        f"`predict_digits` takes {1000 * rows[1]['seconds']:.0f} ms for one image and reads about",
        f"{round(100_000 / rows[100_000]['seconds'], -3):,.0f} a second in large numbers; its",
        f"memory grows by less than {int(rows[100_000]['growth_mib']) + 1} MiB, even for 100,000.",
    )


def evaluation():
    """Return loss, accuracy, its interval and the errors, as the committed run printed them."""
    pattern = r"loss +(\S+)\n.*accuracy +(\S+) +\(95 % interval (\S+) to (\S+)\)\nerrors +(\d+) of"
    return re.search(pattern, printed("model.evaluate(test_data")).groups()


def peers():
    """Return the recorded runs with `time`: their seconds in units of Keras's convnet's.

    Its fifteen epochs were trained in turn with the others on each machine, so this ratio can be
    compared between machines, and seconds cannot.
    """
    runs = pd.read_json(ROOT / "benchmarks" / "peers.jsonl", lines=True)
    unit = runs[runs["variant"] == "Keras's convnet"].groupby("machine")["seconds"].median()
    return runs.assign(time=runs["seconds"] / runs["machine"].map(unit))


def results():
    """How the networks read the test digits: the committed run, then recorded runs over seeds."""
    loss, accuracy, low, high, errors = evaluation()
    runs, rows = peers(), []
    for (name, epochs), group in runs.groupby(["variant", "epochs"], sort=False):
        mean, sd = (group[["accuracy", "loss"]].agg(how) for how in ("mean", "std"))
        spread = ["" if len(group) == 1 else f" ± {sd[metric]:.4f}" for metric in mean.index]
        metrics = [f"{mean[metric]:.4f}{sd}" for metric, sd in zip(mean.index, spread)]
        rows.append([name, epochs, len(group), *metrics, f"{group['time'].median():.2f}"])
    ours = runs[runs["variant"] == "this notebook"]
    seconds = ours[ours["epochs"] == ours["epochs"].max()]["seconds"].median()
    text = paragraph(
        f"The committed run: test accuracy **{accuracy}** (95 % interval {low} to {high}), loss",
        f"{loss}, {errors} errors in 10,000. In the table: mean and standard deviation over runs,",
        "each with another seed, and the median training time, in units of the fifteen epochs of",
        f"Keras's convnet on the same machine. The notebook's default took {seconds:.0f} s on two",
        "cores without AVX-512; with it, it takes about a minute.",
    )
    heads = ["network", ">epochs", ">runs", ">test accuracy", ">test loss", ">time"]
    return f"{text}\n\n{table(heads, rows)}"


def pictures():
    """How the committed run read pictures that are not MNIST's."""
    heads = ["pictures", ">number", ">not sure", ">answered wrongly", ">best guess right"]
    pattern = (
        r"(?m)^(\S.*?)  +(\d+)  not sure +(\S+ %), answered wrongly +(\S+ %)"
        r"(?:, best guess right +(\S+ %))?$"
    )
    return table(heads, re.findall(pattern, printed("small_digits.target")))


def settings():
    """The settings cell as a table."""
    pattern = r'(?m)^(\w+) = (?:os\S+ )?"?(.+?)"?\)?  # (.+)$'
    rows = re.findall(pattern, cell_with("\nEPOCHS = ").source)
    return table(["setting", "default", "meaning"], [[f"`{n}`", *rest] for n, *rest in rows])


def render(text):
    """Return the README `text` with each part made anew."""
    for part in (needs, results, pictures, settings):
        start, end = f"<!-- {part.__name__} -->\n", f"<!-- /{part.__name__} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"The README lacks {start!r} or {end!r}.")
        text = f"{before}{start}{part()}\n{end}{after}"
    return text


def figure(text):
    """Return the committed notebook's last figure in the one code cell that holds `text`."""
    outputs = cell_with(text).outputs
    data = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})][-1]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    for name, text in PICTURES.items():
        figure(text).quantize(64).save(ROOT / "docs" / name, optimize=True)
    print("Written: README.md,", ", ".join(f"docs/{name}" for name in PICTURES))
