"""Properties that hold for every input, tried on inputs that hypothesis looks for; damage by hand.

Examples are drawn in the same order in each run, so a failure here is one that can be repeated.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

allowed = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
tried = settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=allowed)

ANY_ARRAY = hnp.arrays(
    st.sampled_from([np.uint8, np.int16, np.float32, np.bool_]),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=30),
)
UNIT = st.floats(0, 1, width=32)
GREY = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=90), elements=UNIT)


@tried
@given(image=st.one_of(ANY_ARRAY, GREY, hnp.arrays(np.uint8, (30, 40))))
def test_any_array_becomes_a_framed_digit_or_is_refused_in_one_sentence(notebook, image):
    try:
        digit = notebook.prepare_digit(image)
    except notebook.DigitImageError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert (digit.shape, digit.dtype) == ((28, 28, 1), np.float32)
        assert 0 <= digit.min() < digit.max() <= 1
        rows, columns = np.nonzero(digit[..., 0])
        assert max(np.ptp(rows), np.ptp(columns)) < 20


def test_damages_by_hand(notebook):
    """A spot 8 pixels right of the centre goes where each motion should take it."""
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[0, 13:15, 21:23] = 1

    def damage(kind, amount, images=image):
        return np.clip(notebook.DAMAGES[kind][-1](images, amount), 0, 1)

    def center(kind, amount):
        return notebook.ndimage.center_of_mass(damage(kind, amount)[0, ..., 0])

    for kind in set(notebook.DAMAGES) - {"attack"}:
        nothing = notebook.DAMAGES[kind][1]
        np.testing.assert_allclose(damage(kind, nothing), image, atol=1e-6)
    np.testing.assert_allclose(center("translation", 3), [16.5, 24.5], atol=0.05)
    np.testing.assert_allclose(center("scale", 1), [13.5, 17.5], atol=0.1)
    np.testing.assert_allclose(center("rotation", 90), [5.5, 13.5], atol=0.05)
    np.testing.assert_allclose(center("blur", 1), [13.5, 21.5], atol=0.05)
    faint = damage("contrast", 0.5)
    np.testing.assert_allclose([faint.min(), faint.max()], [0.25, 0.75])
    covered = damage("occlusion", 6, np.ones((2, 28, 28, 1), np.float32)) == 0
    assert covered[:, :6].all() and not covered[:, 6:].any()
    noisy = damage("noise", 0.1, np.full((20, 28, 28, 1), 0.5, np.float32))
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_an_attack_stays_near_and_is_stronger_than_one_step(notebook):
    notebook.keras.utils.set_random_seed(0)
    model, tf = notebook.build_cnn(), notebook.tf
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    labels, amount = np.array([0, 3, 6, 9]), 0.1
    attacked = notebook.attack(images, amount, model, labels)
    assert (attacked.shape, attacked.dtype) == (images.shape, np.float32)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert np.abs(attacked - images).max() <= amount + 1e-6

    def loss(x):
        return notebook.keras.losses.sparse_categorical_crossentropy(labels, model(x))

    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(images))
        before = loss(x)
    once = np.clip(images + amount * np.sign(tape.gradient(before, x)), 0, 1)
    assert np.mean(loss(attacked)) > np.mean(loss(once)) > np.mean(before)
    np.testing.assert_array_equal(notebook.attack(images, 0, model, labels), images)
