"""The drawing pad as a person meets it: JupyterLab, Chromium, a digit drawn with the mouse.

Pictures of what was seen are left in `build/` (in continuous integration, an artifact).
"""

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

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
BUILD = cells.ROOT / "build"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep all cells on the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab on a loopback port; return the address of the notebook in it."""
    folder = cells.workplace(tmp_path_factory.mktemp("lab"))
    notebook = cells.read()
    end = next(i for i, cell in enumerate(notebook.cells) if "## 11." in cell.source)
    notebook.cells = notebook.cells[:end]  # the pad answers when the kernel has nothing else to do
    nbformat.write(notebook, folder / cells.PATH.name)
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, **cells.OFFLINE, "KERAS_HOME": str(folder / "keras"), "MNIST_EPOCHS": "9",
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "no_proxy": "127.0.0.1",
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token="]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            [*command, *options], cwd=folder, env=environment, stdout=log, stderr=log
        )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                direct.open(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
        yield f"http://127.0.0.1:{port}/lab/tree/{cells.PATH.name}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def page(lab):
    """The notebook in Chromium, after 'Run All Cells', scrolled to the drawing pad."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(lab)
        page.get_by_role("heading", name="Digit classification").wait_for(timeout=60_000)
        page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(
            timeout=120_000
        )  # a click that comes before the kernel is there would be lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator("[data-command='runmenu:run-all']").click()
        sheet, failed = page.locator("canvas.sheet"), page.locator("[data-mime-type$='stderr']")
        try:
            sheet.or_(failed).first.wait_for(timeout=900_000)  # a slow machine trains long
            assert not failed.count(), failed.first.inner_text()
        finally:
            BUILD.mkdir(exist_ok=True)
            page.screenshot(path=BUILD / "drawing-pad-first.png")
        sheet.scroll_into_view_if_needed()
        yield page
        browser.close()


def circle(center, radius, turns=1.0, steps=40):
    x, y = center
    angles = [2 * math.pi * turns * step / steps for step in range(steps + 1)]
    return [(x - radius * math.sin(a) * 0.7, y - radius * math.cos(a)) for a in angles]


DRAWINGS = {
    "0": [circle((140, 140), 90)],
    "1": [[(150, 50), (135, 235)]],
    "7": [[(75, 60), (205, 55), (130, 235)]],
}


def draw(page, strokes):
    """Draw `strokes` on the sheet with the mouse, as a hand would."""
    box = page.locator("canvas.sheet").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x, box["y"] + y) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the drawing pad was not tried")
@pytest.mark.parametrize("digit", DRAWINGS)
def test_digit_drawn_with_the_mouse_is_read(page, digit):
    answer = page.locator("div.answer")
    page.locator("button.clear").click()
    page.wait_for_function("document.querySelector('div.answer').innerText == 'Draw a digit.'")
    draw(page, DRAWINGS[digit])
    page.wait_for_function("document.querySelectorAll('div.answer progress').length == 10")
    shares = re.findall(r"(\d)\s+(\d+) %", answer.inner_text())
    assert max(shares, key=lambda pair: int(pair[1]))[0] == digit
    seen = page.evaluate(
        "Array.from(document.querySelector('canvas.seen').getContext('2d')"
        ".getImageData(0, 0, 28, 28).data).filter((v, i) => i % 4 == 0 && v < 128).length"
    )
    assert 20 < seen < 300, "the 28 x 28 picture of what the network sees is missing"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the drawing pad was not seen")
def test_pad_is_pictured_in_light_and_dark(page):
    BUILD.mkdir(exist_ok=True)
    pictures = []
    for theme in ("Light", "Dark"):
        page.get_by_role("menuitem", name="Settings", exact=True).click()
        page.locator(".lm-Menu").get_by_text("Theme", exact=True).click()
        page.locator(".lm-Menu").get_by_text(f"JupyterLab {theme}", exact=True).click()
        page.wait_for_function(
            "l => document.body.dataset.jpThemeLight == l", arg=str(theme == "Light").lower()
        )
        page.wait_for_timeout(1000)
        page.locator("canvas.sheet").scroll_into_view_if_needed()
        path = BUILD / f"drawing-pad-{theme.lower()}.png"
        page.screenshot(path=path)
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
