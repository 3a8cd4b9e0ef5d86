"""Plain data: what a learner's code returned, in a form that can be compared and told in words.

Plain data is tensors, numbers, strings, bytes, ``None``, and lists, tuples, sets and dictionaries
of them. It can be pickled, so that the judging may happen in another process than the running.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

# How far a value may be off, as a fraction of the largest expected value of its tensor: two right
# programs that add in another order differ by less, and the usual mistakes by far more.
TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 2e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}
PYTHON_FLOAT_TOLERANCE = 1e-5
# Where only zeros are expected there is no largest value to go by.
SCALE_OF_ZEROS = 0.05
_ITEM = re.compile(r"item \d+( of item \d+)*")


class Failed(Exception):  # noqa: N818 -- it names what happened to a property
    """A property does not hold. The message says what was seen, for the learner to read."""


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Stands for an object that is not plain data: a module, a generator, a function."""

    type_name: str


def plain(value: Any) -> Any:
    """A copy of ``value`` as plain data: tensors detached and on the CPU, objects as ``Opaque``."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | torch.dtype():
            return value
        case torch.Tensor():
            return value.detach().cpu().clone()
        case np.ndarray() | np.generic():
            return value.copy()
        case bytearray():
            return bytes(value)
        case list():
            return [plain(item) for item in value]
        case tuple():  # torch.Size and named tuples too
            return tuple(plain(item) for item in value)
        case set() | frozenset():
            return {plain(item) for item in value}
        case Mapping():
            return {plain(key): plain(item) for key, item in value.items()}
    return Opaque(type(value).__name__)


Axes = Mapping[str, int]  # the size of each axis, by its letter


def difference(
    got: Any, expected: Any, *, tolerance: float | None = None, axes: Axes | None = None
) -> str | None:
    """What sets ``got`` apart from ``expected``, in one line, or ``None`` if nothing does.

    Both are plain data. A right value by another route is equal: any floating dtype stands for
    any other, a tensor of one value for the number, a list for a tuple. ``tolerance`` is a
    fraction of the largest expected value; by default it follows the expected dtype. NaN equals
    NaN and an infinity equals itself. With ``axes`` shapes are told by their letters too.
    """
    if isinstance(expected, torch.Tensor):
        if _is_number(got) and expected.ndim == 0 and (type(got) is not int or abs(got) < 2**63):
            got = torch.tensor(got)
        if isinstance(got, torch.Tensor):
            return _tensor_difference(got, expected, tolerance, axes)
    elif _is_number(expected):
        if isinstance(got, (torch.Tensor, np.ndarray, np.generic)) and got.ndim == 0:
            got = got.item()
        if _is_number(got) and isinstance(got, bool) == isinstance(expected, bool):
            return _number_difference(got, expected, tolerance)
    elif isinstance(expected, (np.ndarray, np.generic)):
        if isinstance(got, (np.ndarray, np.generic)):
            as_tensors = torch.as_tensor(got), torch.as_tensor(expected)
            return _tensor_difference(*as_tensors, tolerance, axes)
    elif isinstance(expected, (list, tuple)):
        if isinstance(got, (list, tuple)):
            return _sequence_difference(got, expected, tolerance, axes)
    elif isinstance(expected, dict):
        if isinstance(got, dict):
            return _dict_difference(got, expected, tolerance, axes)
    elif isinstance(expected, (str, bytes)):
        if type(got) is type(expected):
            return _text_difference(got, expected)
    elif type(got) is type(expected):
        return None if got == expected else f"got {show(got)}, expected {show(expected)}"
    return f"got {show(got)}, expected {show(expected)}"


def show(value: Any) -> str:
    """``value`` in a few words: tensors and objects by their kind, the rest as it is written."""
    match value:
        case None:
            return "None"
        case torch.Tensor() if value.ndim == 0:
            return f"a tensor of one value, {_number(value.item())}"
        case torch.Tensor() | np.ndarray():
            kind = "a tensor" if isinstance(value, torch.Tensor) else "a numpy array"
            return f"{kind} of shape {tuple(value.shape)}"
        case float():
            return _number(value)
        case Opaque():
            return f"an object of type {value.type_name}"
        case list() | tuple() | dict() if any(_is_big(item) for item in _items(value)):
            return f"a {type(value).__name__} of length {len(value)}"
    return _shorten(repr(value))


def show_inputs(names: list[str], inputs: tuple[Any, ...]) -> str:
    """``x of shape (2, 5, 8), num_heads=4``."""
    if len(names) != len(inputs):
        names = [f"argument {i + 1}" for i in range(len(inputs))]
    parts = []
    for name, value in zip(names, inputs, strict=True):
        if isinstance(value, (torch.Tensor, np.ndarray)):
            parts.append(f"{name} of shape {tuple(value.shape)}")
        else:
            parts.append(f"{name}={show(plain(value))}")
    return ", ".join(parts)


def expect(condition: bool, message: str) -> None:
    """Raise ``Failed(message)`` unless the condition holds; ``message`` says what was seen."""
    if not condition:
        raise Failed(message)


def expect_close(
    got: Any, expected: Any, what: str = "", *, tolerance: float | None = None
) -> None:
    """Raise ``Failed`` with the first difference, after ``what`` was compared."""
    found = difference(plain(got), plain(expected), tolerance=tolerance)
    if found is not None:
        raise Failed(f"{what}: {found}" if what else found)


def shape_is(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Callable[[Any], None]:
    """A ``judge`` of predicted shapes: the answer's entry ``name`` is that of ``shapes``.

    What the right shape is stays out of the message: predicting it is the exercise.
    """

    def judge(seen: Any) -> None:
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        expect(
            tuple(seen[name]) == shapes[name],
            f"your shape of {name} is {tuple(seen[name])}, which does not fit",
        )

    return judge


def _tensor_difference(
    got: torch.Tensor, expected: torch.Tensor, tolerance: float | None, axes: Axes | None
) -> str | None:
    if got.shape != expected.shape:
        return _shape_difference(tuple(got.shape), tuple(expected.shape), axes)
    if _kind(got.dtype) != _kind(expected.dtype):
        return f"got {_name(got.dtype)} values, expected {_name(expected.dtype)}"
    if not expected.dtype.is_floating_point:
        wrong = got != expected
    else:
        if tolerance is None:
            tolerance = TOLERANCES.get(expected.dtype, 1e-2)
        exact, other = expected.double(), got.double()
        finite = exact[exact.isfinite()].abs()
        scale = (finite.max().item() if finite.numel() else 0.0) or SCALE_OF_ZEROS
        wrong = ~torch.isclose(other, exact, rtol=0.0, atol=tolerance * scale, equal_nan=True)
    count = int(wrong.sum())
    if count == 0:
        return None
    where = tuple(wrong.nonzero()[0].tolist())
    values = f"got {_number(got[where].item())}, expected {_number(expected[where].item())}"
    if got.dtype != expected.dtype:
        values += f" (your values are {_name(got.dtype)}, not {_name(expected.dtype)})"
    if not where:
        return values
    letters = _letters(tuple(expected.shape), axes)
    place = f"{list(where)} of {_written(letters)}" if letters else f"{list(where)}"
    return f"{count} of {wrong.numel()} values differ, the first at {place}: {values}"


def _shape_difference(got: tuple[int, ...], expected: tuple[int, ...], axes: Axes | None) -> str:
    theirs, ours = _letters(got, axes), _letters(expected, axes)
    if ours is None:
        return f"got shape {got}, expected shape {expected}"
    message = f"got shape {got}{_equal_to(theirs)}, expected {expected}{_equal_to(ours)}"
    if theirs is None:
        return message
    missing = [name for name in ours if name not in theirs]
    extra = [name for name in theirs if name not in ours]
    if not missing and not extra and len(theirs) == len(ours):
        return f"{message}: the axes are in another order"
    if extra and len(missing) == 1 and _size(extra, axes) == _size(missing, axes):
        return f"{message}: {_and(extra)} are not merged into {missing[0]}"
    if missing and len(extra) == 1 and _size(extra, axes) == _size(missing, axes):
        return f"{message}: {extra[0]} is not split into {_and(missing)}"
    if missing and not extra:
        return f"{message}: {_and(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if extra and not missing:
        return f"{message}: {_and(extra)} {'is' if len(extra) == 1 else 'are'} left over"
    return message


def _letters(shape: tuple[int, ...], axes: Axes | None) -> list[str] | None:
    """The letter of each axis, or ``None`` where a size does not say which axis it is.

    A size that no axis has may be that of two side by side: ``H·Dh``.
    """
    if not axes or not shape:
        return None
    names: list[str] = []
    for size in shape:
        fitting = [name for name, own in axes.items() if own == size]
        if not fitting:
            fitting = [
                f"{one}·{other}"
                for i, one in enumerate(axes)
                for other in list(axes)[i + 1 :]
                if axes[one] * axes[other] == size
            ]
        if len(fitting) != 1:
            return None
        names += fitting
    return names


def _size(names: list[str], axes: Axes | None) -> int:
    return math.prod((axes or {})[part] for name in names for part in name.split("·"))


def _written(letters: list[str]) -> str:
    return f"({', '.join(letters)})"


def _equal_to(letters: list[str] | None) -> str:
    return f" = {_written(letters)}" if letters else ""


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _number_difference(got: Any, expected: Any, tolerance: float | None) -> str | None:
    if got == expected or (got != got and expected != expected):
        return None
    exact = isinstance(got, int) and isinstance(expected, int) and tolerance is None
    if not exact and not isinstance(got, complex) and not isinstance(expected, complex):
        relative = PYTHON_FLOAT_TOLERANCE if tolerance is None else tolerance
        size = abs(expected) if math.isfinite(expected) else 0.0
        if math.isclose(got, expected, rel_tol=0.0, abs_tol=max(relative * size, 1e-12)):
            return None
    message = f"got {_number(got)}, expected {_number(expected)}"
    if isinstance(got, int) and isinstance(expected, int) and not isinstance(expected, bool):
        message += f" (off by {got - expected:+,})"
    return message


def _sequence_difference(
    got: Any, expected: Any, tolerance: float | None, axes: Axes | None
) -> str | None:
    for i, (one, other) in enumerate(zip(got, expected, strict=False)):
        found = difference(one, other, tolerance=tolerance, axes=axes)
        if found is not None:
            inner, colon, rest = found.partition(": ")
            if _ITEM.fullmatch(inner):
                return f"{inner} of item {i}{colon}{rest}"
            return f"item {i}: {found}"
    if len(got) != len(expected):
        return f"got {len(got)} items, expected {len(expected)}"
    return None


def _dict_difference(
    got: Any, expected: Any, tolerance: float | None, axes: Axes | None
) -> str | None:
    for key in expected:
        if key not in got:
            return f"key {show(key)} is missing"
        found = difference(got[key], expected[key], tolerance=tolerance, axes=axes)
        if found is not None:
            return f"key {show(key)}: {found}"
    extra = [key for key in got if key not in expected]
    return f"key {show(extra[0])} is not expected" if extra else None


def _text_difference(got: Any, expected: Any) -> str | None:
    if got == expected:
        return None
    message = f"got {show(got)}, expected {show(expected)}"
    shared = min(len(got), len(expected))
    at = next((i for i in range(shared) if got[i] != expected[i]), shared)
    return message if at == 0 else f"{message} (the same up to position {at})"


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex))


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    if dtype.is_floating_point:
        return "floating"
    return "complex" if dtype.is_complex else "integer"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _items(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _is_big(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(_is_big(item) for item in _items(value))
    return isinstance(value, (torch.Tensor, np.ndarray, Opaque))


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
