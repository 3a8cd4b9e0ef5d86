"""Whatever a learner hands in, to whichever exercise: words, and never an error of ours."""

import functools
import random
import types

import numpy as np
import pytest
import torch
from judging import known
from torch import nn

from course_pkg.checks import all_exercises
from course_pkg.checks.engine import call, evaluate

EXERCISES = all_exercises()

# PyTorch warns of what these answers do, and a learner reads that in the report.
pytestmark = pytest.mark.filterwarnings("ignore")


class NoForward(nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()


class Custom(BaseException):
    pass


def raises(*args, **kwargs):
    raise Custom("of the learner's own")


def yields(*args, **kwargs):
    yield torch.ones(2)


def first_input(*args, **kwargs):
    return args[0] if args else None


def holds_itself(*args, **kwargs):
    result = []
    result.append(result)
    return result


def talks(*args, **kwargs):
    for _ in range(50):
        print("x" * 100_000)
    return first_input(*args)


def all_nan(value):
    match value:
        case torch.Tensor() if value.is_floating_point():
            return torch.full_like(value, torch.nan)
        case torch.Tensor() | bool() | int() | float():
            return float("nan")
        case list() | tuple():
            return type(value)(all_nan(item) for item in value)
        case dict():
            return {key: all_nan(item) for key, item in value.items()}
    return value


class Raiser:
    """Fails at everything that one may ask of an object."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


WRONG = {
    "a string": "my answer",
    "an object": object(),
    "an object that fails at everything": Raiser(),
    "a module object": types,
    "a module without forward": NoForward,
    "an instance": NoForward(),
    "too few parameters": lambda: None,
    "too many parameters": lambda a, b, c, d, e, f, g, h, i: None,
    "nothing returned": lambda *args, **kwargs: None,
    "a generator": yields,
    "an error of its own kind": raises,
    "a type": int,
    "a built-in function": print,
    "a list that holds itself": holds_itself,
    "megabytes of prints": talks,
    "a tensor of nothing": lambda *args, **kwargs: torch.empty(0),
    "a complex tensor": lambda *args, **kwargs: torch.ones(2, 2, dtype=torch.complex64),
    "a tensor of whole numbers": lambda *args, **kwargs: torch.ones(2, 3, 5, dtype=torch.int8),
    "a sparse tensor": lambda *args, **kwargs: torch.eye(3).to_sparse(),
    "a tensor without data": lambda *args, **kwargs: torch.empty(2, 3, device="meta"),
    "an array of objects": lambda *args, **kwargs: np.array([object()], dtype=object),
    "a function": lambda *args, **kwargs: raises,
    "a dictionary": lambda *args, **kwargs: {"a": 1, 2: None, None: [torch.ones(1)]},
}


def _generators():
    numpy_state = np.random.get_state()  # noqa: NPY002 -- a learner may use it
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist()


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
@pytest.mark.parametrize("kind", WRONG)
def test_nothing_crashes_a_check(exercise, kind):
    shown = known(exercise.id)
    before = _generators()
    report = evaluate(exercise, WRONG[kind], known=shown)
    assert report.status != "passed"
    assert report.points == 0
    text = report.text()
    assert text.startswith(exercise.id) and len(text) < 20_000
    assert _generators() == before


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_nothing_in_place_of_the_answer_has_not_passed(exercise):
    report = evaluate(exercise, None, known=known(exercise.id))
    assert report.status == ("not started" if exercise.answer_is_value else "failed")


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_nan_is_never_right(exercise):
    if not _returns_numbers(exercise):
        pytest.skip("NaN cannot stand in what it returns")
    right = exercise.reference
    if exercise.answer_is_value:
        assert evaluate(exercise, all_nan(right), known=known(exercise.id)).status == "failed"
        return

    @functools.wraps(right)
    def answer(*args, **kwargs):
        return all_nan(right(*args, **kwargs))

    assert evaluate(exercise, answer, known=known(exercise.id)).status == "failed"


def _returns_numbers(exercise):
    data = exercise.reference
    if not exercise.answer_is_value:
        first = exercise.properties[0]
        if first.observe is not call:
            return False
        (inputs, *_) = (first.cases or exercise.cases)(torch.Generator().manual_seed(1))
        data = exercise.reference(*inputs)
    return repr(all_nan(data)) != repr(data)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_an_endless_loop_is_stopped_and_shown(exercise):
    def answer(*args, **kwargs):
        while True:
            pass

    if isinstance(exercise.reference, type):
        answer = type("Endless", (nn.Module,), {"__init__": answer})
    report = evaluate(exercise, answer, time_limit=0.05, known=known(exercise.id))
    assert report.status == "failed"
    text = report.text()
    assert "still running after 0.05 seconds" in text
    assert "while True:" in text or "pass" in text


def test_a_loop_that_catches_everything_is_stopped_too():
    def answer(*args, **kwargs):
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass

    report = evaluate(EXERCISES[0], answer, time_limit=0.05)
    assert "does a loop never end?" in report.text()
    assert all("still running after" in o.message for o in report.outcomes[:-1])
    assert any("the check stopped your code earlier" in o.message for o in report.outcomes)
