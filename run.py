"""Run the notebook, or its tests, in an environment of their own. Needs Python 3.11-3.13 only.

python run.py                  execute the notebook; results in build/
python run.py -p EPOCHS 3      ... with another value in its parameters cell
python run.py --update         ... and make the results the committed notebook
python run.py test [OPTIONS]   run every test; OPTIONS go to pytest
python run.py test --quick     ... only those that train nothing
python run.py test --newest    ... on the newest versions that requirements.in allows
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOTEBOOK = ROOT / "Digitclassification.ipynb"
BUILD = ROOT / "build"
QUICK = [f"tests/test_{name}.py" for name in ("document", "functions", "claims", "project")]


def prepare_environment(newest: bool = False) -> str:
    """Create `.venv` with what requirements.txt pins, unless it is there; return its Python.

    `newest` makes `.venv-newest`, with the newest versions that requirements.in allows.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}.")
    folder = ROOT / (".venv-newest" if newest else ".venv")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = ROOT / ("requirements.in" if newest else "requirements.txt")
    stamp = folder / "installed.sha256"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if newest or not (stamp.exists() and stamp.read_text() == wanted):
        uv = shutil.which("uv")
        print(
            f"Installing the {'newest' if newest else 'pinned'} packages into {folder.name} with "
            f"{'uv' if uv else 'pip'} (0.9 GB to download, 3.2 GB on disk) ...",
            flush=True,
        )
        venv.create(folder, clear=True, with_pip=not uv)
        install = (
            [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
        )
        hashes = [] if newest else ["--require-hashes"]
        if subprocess.run([*install, *hashes, "-r", requirements]).returncode:
            sys.exit("The installation failed; the message above says why. Run again to retry.")
        stamp.write_text(wanted)
    return str(python)


def read_cells(path: Path) -> list:
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []


def parameter_names() -> list:
    """Return the names that the notebook's parameters cell defines."""
    cells = [c for c in read_cells(NOTEBOOK) if "parameters" in c["metadata"].get("tags", [])]
    return [name for c in cells for name in re.findall(r"(?m)^(\w+) = ", "".join(c["source"]))]


def run_papermill(command: list, environment: dict) -> int:
    """Run `command` and print what the notebook's cells print as it comes; return its code.

    In a terminal, papermill's progress bar stays below as the last line. Elsewhere, as in a log,
    it is printed every ten seconds at most. For that tqdm, which draws it, is asked to fill one
    line exactly; every drawing of the bar then is a line that starts with a carriage return.
    """
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    tqdm = {"NCOLS": width, "BAR_FORMAT": "{l_bar}{bar}{r_bar}\n"}
    tqdm["MININTERVAL"] = 0.1 if terminal else 10
    environment = environment | {f"TQDM_{name}": str(value) for name, value in tqdm.items()}
    bar = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout:
            text, start, rest = line.decode(errors="replace").rstrip().partition("\rExecuting")
            if text and "Kernel is running over TCP" not in text:  # ports of this machine only
                print(f"\r{text:{width}}" if terminal else text, flush=True)
            bar = start + rest or bar
            if terminal:
                print(bar, end="", flush=True)
            elif start:
                print(bar.strip(), flush=True)
    if terminal:
        print()
    return process.returncode


def describe_failure() -> str:
    """Return a sentence that says in which cell of the notebook in `build/` papermill stopped."""
    code = [c for c in read_cells(BUILD / NOTEBOOK.name) if c["cell_type"] == "code"]
    started = [c for c in code if c["metadata"].get("papermill", {}).get("start_time")]
    if not started:
        return "papermill could not run the notebook; its message above says why."
    cell = started[-1]
    errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
    error = f"{errors[0]['ename']}: {errors[0]['evalue']}" if errors else "its kernel died"
    first = "".join(cell["source"]).strip().splitlines()[0]
    error = textwrap.shorten(error, 300, placeholder=" ...")
    return f"Cell [{len(started)}], which begins with `{first}`, failed: {error}"


def without_traces(path: Path) -> str:
    """Return the executed notebook `path` as JSON, without what differs from run to run.

    That is what papermill notes about the run, the time of each cell, the state of widgets, and
    the log that TensorFlow writes when it starts.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for part in (notebook, *notebook["cells"]):
        for name in ("papermill", "execution", "widgets"):
            part["metadata"].pop(name, None)
        if not part["metadata"].get("tags", True):
            del part["metadata"]["tags"]  # papermill gives every cell a list of tags
        if "outputs" in part:
            part["outputs"] = [o for o in part["outputs"] if o.get("name") != "stderr"]
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def execute_notebook(python: str, parameters: list, update: bool = False) -> int:
    """Execute the notebook into `build/` (.ipynb and .html); `update` also replaces the original.

    When a cell fails, what was done until then stays in `build/`. What replaces the original must
    come from the full MNIST: its outputs are the ones that later runs are compared with.
    """
    print(f"Executing {NOTEBOOK.name} (five to fifteen minutes) ...", flush=True)
    executed, page = BUILD / NOTEBOOK.name, BUILD / f"{NOTEBOOK.stem}.html"
    BUILD.mkdir(exist_ok=True)
    executed.unlink(missing_ok=True)
    page.unlink(missing_ok=True)
    environment = dict(os.environ)
    if update and environment.get("MNIST_DATA", "auto") == "auto":
        environment["MNIST_DATA"] = "full"
    command = [python, "-m", "papermill", "-k", "python3", "--log-level=WARNING", "--stdout-file=-"]
    for name, value in parameters:
        command += ["-p", name, value]
    if code := run_papermill([*command, NOTEBOOK, executed], environment):
        if executed.exists():
            print(f"Written, up to the error: {executed.relative_to(ROOT)}", flush=True)
        print(describe_failure(), file=sys.stderr)
        return code
    convert = [python, "-m", "nbconvert", "--log-level=ERROR", "--to=html", executed]
    if code := subprocess.run(convert, cwd=ROOT).returncode:
        return code
    written = [executed, page]
    if update:
        copy = NOTEBOOK.with_suffix(".new")
        copy.write_text(without_traces(executed), encoding="utf-8", newline="\n")
        os.replace(copy, NOTEBOOK)
        written.append(NOTEBOOK)
    for path in written:
        print(f"Written: {path.relative_to(ROOT)}", flush=True)
    if update:
        return subprocess.run([python, "benchmarks/readme_tables.py"], cwd=ROOT).returncode
    return 0


def main(arguments: list | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set NAME of the parameters cell to VALUE; may be repeated",
    )
    parser.add_argument("--update", action="store_true", help="replace the committed notebook")
    commands = parser.add_subparsers(dest="what", title="command")
    test = commands.add_parser(
        "test", prog="run.py test", help="run the tests; see test --help", allow_abbrev=False
    )
    test.add_argument("--quick", action="store_true", help="only the tests that train nothing")
    test.add_argument("--newest", action="store_true", help="test on the newest versions")
    options, rest = parser.parse_known_args(arguments)
    if options.what == "test":
        python = prepare_environment(options.newest)
        quick = QUICK if options.quick else []
        return subprocess.run([python, "-m", "pytest", *quick, *rest], cwd=ROOT).returncode

    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    if options.update:
        if options.parameters:
            parser.error("what is committed comes from the notebook's own parameters: leave out -p")
        if os.environ.get("MNIST_DATA") == "sample":
            parser.error("what is committed comes from the full MNIST, but MNIST_DATA is sample")
    names = parameter_names()
    for name, _ in options.parameters:
        if name not in names:
            parser.error(f"the parameters cell has no {name}; it has {', '.join(names)}")
    return execute_notebook(prepare_environment(), options.parameters, options.update)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a pipe on Windows may lack some characters
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
