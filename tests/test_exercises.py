"""Each exercise: its solution, run as it is printed, shows what its text says.

And it no longer does once the change that it is about is left out.
"""

import contextlib
import io

import cells
import numpy as np
import pytest
from PIL import Image


def solution(number):
    """Return the code in the solution of exercise `number`, and for 6 of the cell to run then."""
    (text,) = [c.source for c in cells.read().cells if f"**Exercise {number}: " in c.source]
    text = text.split(f"**Exercise {number}: ")[1].split("</details>")[0]
    _, code = text.split("<summary>Solution</summary>")[1].split("```python\n")
    (after,) = [c.source for _, c in cells.code_cells() if "in architectures" in c.source]
    return code.split("```")[0] + (after if number == 6 else "")


def check_1(space):
    cnn, plain = ([space["accuracies"][name, space["LEARNING_RATE"] * factor] for factor in (1, 30)]
                  for name in ("build_cnn", "build_plain"))  # fmt: skip
    assert space["build_plain"]().count_params() == 133722 - 4 * 256 + 256
    assert min(cnn + plain[:1]) > 0.6 and plain[1] < cnn[1] - 0.2


def check_2(space):
    assert space["plain"].history.history["loss"][-1] < 0.7 * space["history"]["loss"][2]


def check_3(space):
    losses = [space["losses"][epochs] for epochs in (1, 2, 4, 8)]
    gains = -np.diff(losses)
    assert gains.min() > 0 and gains[-1] < gains[0] / 2


def check_4(space):
    assert space["after"][space["hard"]].sum() < space["before"][space["hard"]].sum()


def check_5(space):
    assert space["shares"].argmax(axis=1).tolist() == [6, 9]


def check_6(space):
    accuracy = space["table"]["accuracy"]
    assert accuracy["dense without ReLU"] < accuracy["dense"] - 0.002


EXERCISES = {  # number: the check, and what is put back in place of the change it is about
    1: (check_1, "if not isinstance(layer, layers.BatchNormalization):", "if True:"),
    2: (check_2, ', "none"', ""),
    3: (check_3, "epochs=epochs, ", ""),
    4: (check_4, "[index, more, more]", "[index]"),
    5: (check_5, ".rotate(180)", ""),
    6: (check_6, '"linear"', ""),
}


@pytest.fixture(scope="module")
def space(space, notebook, tmp_path_factory):
    """The notebook's names, one's own picture of a 6, and architectures that take no time."""
    space = {**space, "train_and_score": notebook.train_and_score}
    six = np.flatnonzero((space["test_labels"] == 6) & (space["predicted"] == 6))[0]
    path = tmp_path_factory.mktemp("own") / "six.png"
    Image.fromarray(255 - space["test_images"][six]).resize((140, 140)).save(path)
    return space | {"MY_PICTURE": path, "architectures": {"dense": space["build_dense"]}}


@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize("number", EXERCISES)
def test_solution_shows_what_it_says_and_only_with_its_change(space, number, left_out):
    check, change, before = EXERCISES[number]
    code = solution(number)
    assert code.count(change) == 1
    space = {**space, "architectures": {**space["architectures"]}}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.replace(change, before) if left_out else code, space)
    space["plt"].close("all")
    with pytest.raises(AssertionError) if left_out else contextlib.nullcontext():
        check(space)
