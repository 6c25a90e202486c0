"""The drawing sheet as a person meets it: JupyterLab, Chromium, a digit drawn with the mouse.

Pictures of what was seen are left in `build/` (in continuous integration, an artifact).
"""

import contextlib
import json
import math
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
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep all cells on the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab on a loopback port; return the address of the notebook in it."""
    folder = cells.workplace(tmp_path_factory.mktemp("lab"))
    notebook = cells.with_parameters(cells.read(), DATA="sample", EPOCHS=9)
    end = next(i for i, cell in enumerate(notebook.cells) if "## 10." in cell.source)
    notebook.cells = notebook.cells[:end]  # the sheet answers when the kernel has nothing to do
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=[])
    nbformat.write(notebook, folder / cells.PATH.name)
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "no_proxy": "127.0.0.1",
    }  # fmt: skip
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
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(3):  # what is asked of a kernel that is still connecting may get lost
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(lab)
            page.get_by_role("heading", name="Digit classification").wait_for(timeout=60_000)
            idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
            idle.wait_for(timeout=120_000)
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.locator("[data-command='runmenu:run-all']").click()
            with contextlib.suppress(TimeoutError):
                page.get_by_text(re.compile(r"^\[\d+\]:$")).first.wait_for(timeout=120_000)
                break
            page.close()
        failed = page.locator(".jp-OutputArea-output", has_text="Traceback (most recent call last)")
        try:
            page.locator(SHEET).or_(failed).first.wait_for(timeout=900_000)  # trains long if slow
            assert not failed.count(), failed.first.inner_text()
        finally:
            BUILD.mkdir(exist_ok=True)
            page.screenshot(path=BUILD / "drawing-sheet-first.png")
        page.locator(SHEET).scroll_into_view_if_needed()
        yield page
        browser.close()


SHEET, SEEN, ANSWER = (f".digit-sheet {part}" for part in ("canvas", "img", "output"))
BOW = [(140 - 58 * math.cos(t / 10), 105 - 55 * math.sin(t / 10)) for t in range(2, 38)]
DRAWINGS = {  # digit: strokes, in pixels of the sheet
    "1": [[(150, 50), (135, 235)]],
    "2": [[*BOW, (78, 225), (150, 218), (212, 230)]],
    "7": [[(75, 60), (205, 55), (130, 235)]],
}


def draw(page, strokes):
    """Draw `strokes` on the sheet with the mouse, as a hand would; wait for the answer."""
    box = page.locator(SHEET).bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x, box["y"] + y) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()
    page.wait_for_function(f"document.querySelectorAll('{ANSWER} progress').length == 10")


def clear(page):
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function(f"document.querySelector('{ANSWER}').innerText == 'Draw a digit.'")


@pytest.mark.parametrize("digit", DRAWINGS)
def test_digit_drawn_with_the_mouse_is_read(page, digit):
    clear(page)
    draw(page, DRAWINGS[digit])
    shares = re.findall(r"(\d)\s+(\d+)%", page.locator(ANSWER).inner_text())
    assert max(shares, key=lambda pair: int(pair[1]))[0] == digit
    box = page.locator(SEEN).bounding_box()
    assert box["width"] == box["height"] > 100, "what the network sees is missing or distorted"


def test_sheet_is_pictured_in_light_and_dark(page):
    clear(page)
    draw(page, DRAWINGS["2"])
    pictures = []
    for theme in ("dark", "light"):
        page.get_by_role("menuitem", name="Settings", exact=True).click()
        page.locator(".lm-Menu").get_by_text("Theme", exact=True).click()
        page.locator(".lm-Menu").get_by_text(f"JupyterLab {theme.title()}", exact=True).click()
        light = str(theme == "light").lower()
        page.wait_for_function("l => document.body.dataset.jpThemeLight == l", arg=light)
        page.wait_for_timeout(1000)
        path = BUILD / f"drawing-sheet{'' if theme == 'light' else '-dark'}.png"
        sheet, answer = (page.locator(part).bounding_box() for part in (SHEET, ANSWER))
        width = answer["x"] + answer["width"] + 10 - sheet["x"]
        clip = {"x": sheet["x"] - 2, "y": sheet["y"] - 2, "width": width, "height": 318}
        page.screenshot(path=path, clip=clip)
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
