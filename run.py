"""Run the notebook, or its tests, in an environment of their own. Needs Python 3.11-3.13 only.

python run.py                  execute the notebook; results in build/
python run.py --update         ... and make them the committed notebook
python run.py test [OPTIONS]   run every test; OPTIONS go to pytest
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOTEBOOK = ROOT / "Digitclassification.ipynb"
ENVIRONMENT = ROOT / ".venv"
BUILD = ROOT / "build"


def prepare_environment() -> str:
    """Create `.venv` with what requirements.txt pins, unless it is there; return its Python."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}.")
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = ROOT / "requirements.txt"
    stamp = ENVIRONMENT / "installed.sha256"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print("Installing the pinned packages into .venv (once; 3.2 GB) ...", flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes"]
        if subprocess.run([*pip, "-r", requirements]).returncode:
            sys.exit("The installation failed; pip's message above says why. Run again to retry.")
        stamp.write_text(wanted)
    return str(python)


def execute_notebook(python: str, update: bool) -> int:
    """Execute the notebook into `build/` (.ipynb and .html); `update` also replaces the original.

    Nothing is written unless every cell succeeds. What replaces the original must come from the
    full MNIST: its outputs are the ones that later runs are compared with.
    """
    print(f"Executing {NOTEBOOK.name} (a few minutes) ...", flush=True)
    environment = {**os.environ, **({"MNIST_REQUIRE_FULL": "1"} if update else {})}
    convert = [python, "-m", "nbconvert", "--log-level=ERROR", "--output-dir", BUILD]
    steps = [
        [*convert, "--to=notebook", "--execute", "--ExecutePreprocessor.record_timing=False"],
        [*convert, "--to=html"],
    ]
    for source, step in zip((NOTEBOOK, BUILD / NOTEBOOK.name), steps):
        if code := subprocess.run([*step, source], cwd=ROOT, env=environment).returncode:
            print("The notebook failed: the message above names the cell.", file=sys.stderr)
            return code
    if update:
        copy = NOTEBOOK.with_suffix(".new")
        copy.write_bytes((BUILD / NOTEBOOK.name).read_bytes())
        os.replace(copy, NOTEBOOK)
    shown = [NOTEBOOK] if update else []
    for path in (BUILD / NOTEBOOK.name, BUILD / f"{NOTEBOOK.stem}.html", *shown):
        print(f"Written: {path.relative_to(ROOT)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["notebook", "test"], default="notebook")
    parser.add_argument("--update", action="store_true", help="replace the committed notebook")
    options, rest = parser.parse_known_args()
    if rest and options.what != "test":
        parser.error(f"unknown: {' '.join(rest)}")
    python = prepare_environment()
    if options.what == "test":
        return subprocess.run([python, "-m", "pytest", *rest], cwd=ROOT).returncode
    return execute_notebook(python, options.update)


if __name__ == "__main__":
    sys.exit(main())
