"""Run the notebook, or its tests, in an environment of their own. Needs Python 3.11-3.13 only.

python run.py                  execute the notebook; results in build/
python run.py --update         ... and make them the committed notebook
python run.py --full           run section 11 on all data (1.5 hours); results in benchmarks/
python run.py test [OPTIONS]   run every test; OPTIONS go to pytest
python run.py test --newest    ... on the newest versions that requirements.in allows
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOTEBOOK = ROOT / "Digitclassification.ipynb"
ENVIRONMENT = ROOT / ".venv"
BUILD = ROOT / "build"
RECORDS = "extensions.jsonl"  # in build/ while it grows, in benchmarks/ when it is complete


def prepare_environment(newest: bool = False) -> str:
    """Create `.venv` with what requirements.txt pins, unless it is there; return its Python.

    `newest` makes `.venv-newest`, with the newest versions that requirements.in allows.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}.")
    folder = ROOT / ".venv-newest" if newest else ENVIRONMENT
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = ROOT / ("requirements.in" if newest else "requirements.txt")
    stamp = folder / "installed.sha256"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if newest or not (stamp.exists() and stamp.read_text() == wanted):
        which = "newest" if newest else "pinned"
        print(f"Installing the {which} packages into {folder.name} (3.2 GB) ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        hashes = [] if newest else ["--require-hashes"]
        if subprocess.run([*pip, *hashes, "-r", requirements]).returncode:
            sys.exit("The installation failed; pip's message above says why. Run again to retry.")
        stamp.write_text(wanted)
    return str(python)


def run_and_follow(command: list, environment: dict, log: Path) -> int:
    """Run `command` and print what is added to the file `log` until it ends; return its code."""

    def read():
        return log.read_text().splitlines() if log.exists() else []

    shown = len(read())
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    while True:
        running, lines = process.poll() is None, read()
        for line in lines[shown:]:
            print(line, flush=True)
        shown = len(lines)
        if not running:
            return process.returncode
        time.sleep(1)


def execute_notebook(python: str, update: bool, full: bool = False) -> int:
    """Execute the notebook into `build/` (.ipynb and .html); `update` also replaces the original.

    Nothing is written unless every cell succeeds. What replaces the original must come from the
    full MNIST: its outputs are the ones that later runs are compared with. `full` gives section 11
    its full budget; a run that was cut off goes on from the records in `build/`.
    """
    print(f"Executing {NOTEBOOK.name} ({'1.5 hours' if full else 'a few minutes'}) ...", flush=True)
    environment = dict(os.environ)
    if update or full:
        environment["MNIST_REQUIRE_FULL"] = "1"
    if full:
        environment["MNIST_BUDGET"] = "full"
    convert = [python, "-m", "nbconvert", "--log-level=ERROR", "--output-dir", BUILD]
    steps = [
        [*convert, "--to=notebook", "--execute", "--ExecutePreprocessor.record_timing=False"],
        [*convert, "--to=html"],
    ]
    for source, step in zip((NOTEBOOK, BUILD / NOTEBOOK.name), steps):
        if code := run_and_follow([*step, source], environment, BUILD / RECORDS):
            print("The notebook failed: the message above names the cell.", file=sys.stderr)
            return code
    if update:
        copy = NOTEBOOK.with_suffix(".new")
        copy.write_bytes((BUILD / NOTEBOOK.name).read_bytes())
        os.replace(copy, NOTEBOOK)
    if full:
        (BUILD / "search.journal").unlink(missing_ok=True)
        os.replace(BUILD / RECORDS, ROOT / "benchmarks" / RECORDS)
    shown = [NOTEBOOK] if update else [ROOT / "benchmarks" / RECORDS] if full else []
    for path in (BUILD / NOTEBOOK.name, BUILD / f"{NOTEBOOK.stem}.html", *shown):
        print(f"Written: {path.relative_to(ROOT)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["notebook", "test"], default="notebook")
    parser.add_argument("--update", action="store_true", help="replace the committed notebook")
    parser.add_argument("--full", action="store_true", help="section 11 on all data (1.5 hours)")
    parser.add_argument("--newest", action="store_true", help="test on the newest versions")
    options, rest = parser.parse_known_args()
    if options.what != "test" and (rest or options.newest):
        parser.error(f"unknown: {' '.join(rest) or '--newest'}")
    python = prepare_environment(options.newest)
    if options.what == "test":
        return subprocess.run([python, "-m", "pytest", *rest], cwd=ROOT).returncode
    if options.update and options.full:
        parser.error("--update and --full exclude each other: run one, then the other")
    return execute_notebook(python, options.update, options.full)


if __name__ == "__main__":
    sys.exit(main())
