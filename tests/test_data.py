"""Loading MNIST: every source, and what happens when one fails."""

import hashlib
import io
import os
import socket

import numpy as np
import pytest


def saved(arrays):
    """Return the bytes of an .npz file of `arrays`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def tiny(notebook, monkeypatch):
    """Stand in for MNIST with a few arrays of the same layout, under their own checksum."""
    rng = np.random.default_rng(0)
    sizes = {"x_train": (60, 28, 28), "y_train": (60,), "x_test": (20, 28, 28), "y_test": (20,)}
    arrays = {name: rng.integers(0, 10, shape, np.uint8) for name, shape in sizes.items()}
    digest = hashlib.sha256(b"".join(arrays.values())).hexdigest()
    monkeypatch.setattr(notebook, "MNIST_SHA256", digest)
    return arrays


def assert_loaded(loaded, arrays):
    for array, expected in zip(loaded, arrays.values(), strict=True):
        np.testing.assert_array_equal(array, expected, strict=True)


def test_file_of_ones_own_is_read(notebook, tiny, tmp_path):
    np.savez_compressed(tmp_path / "any name.npz", **dict(reversed(tiny.items())))
    assert_loaded(notebook.load_mnist(str(tmp_path / "any name.npz")), tiny)


class Bomb:
    """Ends the test run if it is ever unpickled."""

    def __reduce__(self):
        return os._exit, (1,)


def altered(array):
    """Return `array` with one bit flipped."""
    changed = array.copy()
    changed.flat[3000 % changed.size] ^= 1
    return changed


BAD_FILES = {  # fault: what makes the file of the good arrays
    "missing": lambda a: None,
    "truncated": lambda a: saved(a)[:-2000],
    "page of an error": lambda a: b"<html>404</html>" * 99,
    "bit flipped in the file": lambda a: altered(np.frombuffer(saved(a), np.uint8)).tobytes(),
    "bit flipped in an array": lambda a: saved({**a, "x_test": altered(a["x_test"])}),
    "wrong name": lambda a: saved({"images": a["x_train"]}),
    "pickled array": lambda a: saved({**a, "y_test": np.array([Bomb()], object)}),
}


def assert_says_what_to_do(error):
    assert "mnist.npz" in str(error) and "\n" not in str(error)
    assert error.__suppress_context__, "the library's own error stands above"


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_file_is_a_clear_error(notebook, tiny, tmp_path, fault):
    path = tmp_path / "mnist.npz"
    if (body := BAD_FILES[fault](tiny)) is not None:
        path.write_bytes(body)
    with pytest.raises(ValueError) as caught:
        notebook.load_mnist(path)
    assert_says_what_to_do(caught.value)


def download(monkeypatch, notebook, result):
    """Let Keras's loader give `result`; return the time limits of sockets that it saw."""
    limits = []

    def load_data():
        limits.append(socket.getdefaulttimeout())
        if isinstance(result, Exception):
            raise result
        return (result["x_train"], result["y_train"]), (result["x_test"], result["y_test"])

    monkeypatch.setattr(notebook.keras.datasets.mnist, "load_data", load_data)
    return limits


def test_kerass_loader_is_asked_with_a_time_limit_and_checked(notebook, tiny, monkeypatch):
    limits, before = download(monkeypatch, notebook, tiny), socket.getdefaulttimeout()
    for data in ("auto", "full"):
        assert_loaded(notebook.load_mnist(data), tiny)
    assert limits == [20, 20] and socket.getdefaulttimeout() == before
    download(monkeypatch, notebook, {**tiny, "y_test": altered(tiny["y_test"])})
    with pytest.raises(ValueError, match="not MNIST's"):
        notebook.load_mnist("full")


def test_without_a_network_the_sample_or_if_full_an_error(notebook, tiny, monkeypatch, capsys):
    download(monkeypatch, notebook, TimeoutError("timed\nout"))
    before = socket.getdefaulttimeout()
    loaded = notebook.load_mnist("auto")
    assert [len(array) for array in loaded] == [4000, 4000, 1000, 1000]
    assert "TimeoutError" in capsys.readouterr().out
    with pytest.raises(ValueError) as caught:
        notebook.load_mnist("full")
    assert_says_what_to_do(caught.value)
    assert socket.getdefaulttimeout() == before


def test_sample_is_real_always_the_same_and_needs_no_network(notebook, tiny, monkeypatch):
    asked = download(monkeypatch, notebook, tiny)
    first, second = notebook.load_mnist("sample"), notebook.load_mnist("sample")
    assert not asked
    assert_loaded(first, dict(enumerate(second)))
    x_train, y_train, x_test, y_test = first
    assert min(np.bincount(y_train)) > 350 and min(np.bincount(y_test)) > 70
    assert x_train.shape == (4000, 28, 28) and x_train.max() == 255
    assert not {image.tobytes() for image in x_train} & {image.tobytes() for image in x_test}
