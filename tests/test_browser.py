"""The drawing sheet as a person meets it: JupyterLab, Chromium, a digit drawn with the mouse.

Pictures of what was seen are left in `build/` (in continuous integration, an artifact).
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import cells
import nbformat
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the sheet was not tried")

BUILD = cells.ROOT / "build"
SHEET, SEEN, ANSWER = (f".digit-sheet {part}" for part in ("canvas", "img", "output"))
WINDOWING = "@jupyterlab/notebook-extension/tracker.jupyterlab-settings"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab on a loopback port; return the address of the notebook in it."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(cells.PATH, folder)
    notebook = cells.with_parameters(cells.read(), DATA="sample", EPOCHS=9)
    end = next(i for i, cell in enumerate(notebook.cells) if "## 10." in cell.source)
    notebook.cells = notebook.cells[:end]  # the sheet answers when the kernel has nothing to do
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=[])
    nbformat.write(notebook, folder / cells.PATH.name)
    settings = folder / "settings" / WINDOWING
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # keep all cells on the page
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "JUPYTER_CONFIG_DIR": folder}
    environment = {**os.environ, **{k: str(v) for k, v in folders.items()}}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token="]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(120):
            time.sleep(0.5)
            assert server.poll() is None, (folder / "server.log").read_text()
            with contextlib.suppress(OSError):
                direct.open(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
        yield f"http://127.0.0.1:{port}/lab/tree/{cells.PATH.name}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def page(lab):
    """The notebook in Chromium, after 'Run All Cells', scrolled to the drawing sheet."""
    from playwright.sync_api import TimeoutError, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(3):  # what is asked of a kernel that is still connecting may get lost
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(lab)
            idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
            idle.wait_for(timeout=120_000)
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.locator("[data-command='runmenu:run-all']").click()
            with contextlib.suppress(TimeoutError):
                page.get_by_text(re.compile(r"^\[\d+\]:$")).first.wait_for(timeout=60_000)
                break
            page.close()
        failed = page.locator(".jp-OutputArea-output", has_text="Traceback (most recent call last)")
        page.locator(SHEET).or_(failed).first.wait_for(timeout=900_000)  # trains long if slow
        assert not failed.count(), failed.first.inner_text()
        page.locator(SHEET).scroll_into_view_if_needed()
        yield page
        browser.close()


DRAWINGS = {"1": [(150, 50), (135, 235)], "7": [(75, 60), (205, 55), (130, 235)]}  # strokes


@pytest.mark.parametrize("digit", DRAWINGS)
def test_digit_drawn_with_the_mouse_is_read(page, digit):
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function(f"document.querySelector('{ANSWER}').innerText == 'Draw a digit.'")
    box = page.locator(SHEET).bounding_box()
    first, *others = [(box["x"] + x, box["y"] + y) for x, y in DRAWINGS[digit]]
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    page.wait_for_function(f"document.querySelectorAll('{ANSWER} progress').length == 10")
    BUILD.mkdir(exist_ok=True)
    page.locator(".digit-sheet").screenshot(path=BUILD / "drawing-sheet.png")
    shares = re.findall(r"(\d)\s+(\d+)%", page.locator(ANSWER).inner_text())
    assert max(shares, key=lambda pair: int(pair[1]))[0] == digit
    seen = page.locator(SEEN).bounding_box()
    assert seen["width"] == seen["height"] > 100, "what the network sees is missing or distorted"
