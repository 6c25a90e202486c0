"""Run the notebook, or its tests, in an environment of their own. Needs Python 3.11-3.13 only.

python run.py                  execute the notebook; results in build/
python run.py -p EPOCHS 3      ... with another value in its settings cell
python run.py --update         ... and make the results the committed notebook
python run.py test [OPTIONS]   run every test; OPTIONS go to pytest
python run.py test --quick     ... only those that train nothing
python run.py test --newest    ... on the newest versions that requirements.in allows
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOTEBOOK = ROOT / "Digitclassification.ipynb"
BUILD = ROOT / "build"
QUICK = [f"tests/test_{name}.py" for name in ("document", "functions", "claims", "project")]


def prepare_environment(newest: bool = False) -> str:
    """Return the Python of `.venv`, which is made anew if requirements.txt has changed.

    `newest`: of `.venv-newest`, made from requirements.in. If that fails, the old one is put back.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}.")
    folder = ROOT / (".venv-newest" if newest else ".venv")
    aside, stamp = folder.with_name(f"{folder.name}-before"), folder / "installed.sha256"
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    requirements = ROOT / ("requirements.in" if newest else "requirements.txt")
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not newest and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"Installing packages into {folder.name} (0.9 GB to download, 3.2 GB on disk) ...")
    uv = shutil.which("uv")
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    try:
        if stamp.exists():  # what is there is complete
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        venv.create(folder, clear=True, with_pip=not uv)
        hashes = [] if newest else ["--require-hashes"]
        subprocess.run([*install, *hashes, "-r", requirements], check=True)
        stamp.write_text(wanted)
    except (OSError, subprocess.CalledProcessError, KeyboardInterrupt) as error:
        if aside.exists() and not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        kept = f"{folder.name} is as it was before. " if stamp.exists() else ""
        sys.exit(f"Not installed ({type(error).__name__}). {kept}Close Jupyter; run this again.")
    shutil.rmtree(aside, ignore_errors=True)
    return python


def describe_failure(executed: Path) -> str:
    """Return a sentence that says in which cell of `executed` papermill stopped."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"] if executed.exists() else []
    cells = [c for c in cells if "outputs" in c and c["metadata"]["papermill"].get("start_time")]
    if not cells:
        return "papermill could not run the notebook; its message above says why."
    first = "".join(cells[-1]["source"]).strip().split("\n")[0]
    died = not any(output["output_type"] == "error" for output in cells[-1]["outputs"])
    why = "its kernel died, perhaps for lack of memory" if died else "its error is above"
    return f"Cell {len(cells)}, which begins with `{first}`, failed: {why}."


def without_traces(executed: Path) -> str:
    """Return the notebook `executed` as JSON, without what differs from run to run."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for part in (notebook, *notebook["cells"]):
        data = part["metadata"]  # papermill also gives every cell a list of tags, most empty
        kept = data.keys() - {"papermill", "execution", "widgets"}
        part["metadata"] = {name: data[name] for name in kept if data[name]}
        if "outputs" in part:  # TensorFlow's log goes to stderr
            part["outputs"] = [o for o in part["outputs"] if o.get("name") != "stderr"]
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def execute_notebook(python: str, parameters: list, update: bool) -> int:
    """Execute the notebook into `build/`, as .ipynb and .html; `update` replaces the original."""
    print(f"Executing {NOTEBOOK.name} (five to fifteen minutes) ...", flush=True)
    executed, environment = BUILD / NOTEBOOK.name, dict(os.environ)
    BUILD.mkdir(exist_ok=True)
    executed.unlink(missing_ok=True)
    if update and environment.get("MNIST_DATA", "auto") == "auto":
        environment["MNIST_DATA"] = "full"  # later runs are compared with these outputs
    command = [python, "-m", "papermill", "-k", "python3", "--log-level=WARNING"]
    command += [word for pair in parameters for word in ("-p", *pair)]
    if subprocess.run([*command, NOTEBOOK, executed], cwd=ROOT, env=environment).returncode:
        sys.exit(describe_failure(executed))
    convert = [python, "-m", "nbconvert", "--log-level=ERROR", "--to=html", executed]
    subprocess.run(convert, cwd=ROOT, check=True)
    print(f"Written: build/{executed.name}, and the same as .html", flush=True)
    if not update:
        return 0
    NOTEBOOK.write_text(without_traces(executed), encoding="utf-8", newline="\n")
    return subprocess.run([python, "benchmarks/readme_tables.py"], cwd=ROOT).returncode


def main(arguments: list) -> int:
    parser = argparse.ArgumentParser(usage="\n" + __doc__, allow_abbrev=False)
    if arguments[:1] == ["test"]:
        parser.add_argument("--quick", action="store_true")
        parser.add_argument("--newest", action="store_true")
        options, rest = parser.parse_known_args(arguments[1:])
        rest = [*QUICK, *rest] if options.quick else rest
        python = prepare_environment(options.newest)
        return subprocess.run([python, "-m", "pytest", *rest], cwd=ROOT).returncode
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args(arguments)
    if options.update and (options.p or os.environ.get("MNIST_DATA") == "sample"):
        parser.error("what is committed comes from the full MNIST and the notebook's own settings")
    return execute_notebook(prepare_environment(), options.p, options.update)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
