"""Plain data as bytes, and back from bytes that nobody vouches for.

A message is ``b"GPW1"``, the length of a header (4 bytes, little-endian), the header, and the
contents of tensors, arrays and byte strings, one after the other. The header is JSON that holds
lists, strings, whole numbers, true, false and null only; all else is a list that begins with a
mark. Nothing is ever unpickled, and ``decode`` believes nothing: every length is checked against
what is there, and nothing is allocated that the message does not hold.

This module is also what the sandbox encodes with, so it imports nothing of the package.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

MAGIC = b"GPW1"
MAX_BYTES = 64 * 2**20  # of a whole message
MAX_HEADER = 4 * 2**20
MAX_NODES = 400_000
MAX_DEPTH = 32
MAX_DIMENSIONS = 6
_MAX_AXIS = 2**31 - 1
_MAX_DIGITS = 400  # of a whole number

_TENSORS = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
        torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip
_ARRAYS = {
    name: np.dtype(name)
    for name in (
        "float64", "float32", "float16", "int64", "int32", "int16", "int8",
        "uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128",
    )
}  # fmt: skip
_DTYPE_NAMES = frozenset(
    name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)
)


class Malformed(ValueError):  # noqa: N818 -- it says what the bytes are
    """Bytes that are no message. The text says why, and holds nothing of the bytes."""


def encode(value: Any, *, opaque: type | None = None) -> bytes:
    """A message that holds ``value``, which is plain data.

    Args:
        value: ``None``, booleans, numbers, strings, bytes, tensors, NumPy arrays, dtypes, and
            lists, tuples, sets and dictionaries of them.
        opaque: the class of stand-ins for other objects; their ``type_name`` is sent.

    Raises:
        ValueError: something else is in it, or more than a message may hold.
    """
    contents: list[bytes] = []
    header = json.dumps(_tree(value, contents, opaque, 0), separators=(",", ":")).encode()
    if len(header) > MAX_HEADER:
        raise ValueError(f"the header has {len(header):,} bytes: at most {MAX_HEADER:,} are sent.")
    message = b"".join([MAGIC, len(header).to_bytes(4, "little"), header, *contents])
    if len(message) > MAX_BYTES:
        raise ValueError(f"the value has {len(message):,} bytes: at most {MAX_BYTES:,} are sent.")
    return message


def _tree(value: Any, contents: list[bytes], opaque: type | None, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"the value is nested more than {MAX_DEPTH} deep.")
    match value:
        case None | bool():
            return value
        case int():
            digits = str(int(value)) if abs(value) < 10**_MAX_DIGITS else ""
            if not digits:
                raise ValueError(f"a whole number has more than {_MAX_DIGITS} digits.")
            return ["i", digits] if abs(value) >= 2**63 else int(value)
        case float():
            return ["f", float(value).hex()]
        case complex():
            return ["c", float(value.real).hex(), float(value.imag).hex()]
        case str():
            return str.__str__(value)
        case bytes():
            contents.append(bytes(value))
            return ["y", len(value)]
        case torch.dtype():
            return ["D", str(value).removeprefix("torch.")]
        case torch.Tensor():
            return _tensor_tree(value, contents)
        case np.ndarray() | np.generic():
            return _array_tree(value, contents)
        case list() | tuple() | set() | frozenset():
            mark = "l" if isinstance(value, list) else "t" if isinstance(value, tuple) else "s"
            return [mark, *(_tree(item, contents, opaque, depth + 1) for item in value)]
        case Mapping():
            pairs = (part for pair in value.items() for part in pair)
            return ["d", *(_tree(part, contents, opaque, depth + 1) for part in pairs)]
    if opaque is not None and isinstance(value, opaque):
        return ["O", str(value.type_name)[:200]]  # type: ignore[attr-defined]
    raise ValueError(f"an object of type {type(value).__name__} is no plain data.")


def _tensor_tree(value: torch.Tensor, contents: list[bytes]) -> list[Any]:
    name = str(value.dtype).removeprefix("torch.")
    if name not in _TENSORS or value.layout != torch.strided or value.ndim > MAX_DIMENSIONS:
        raise ValueError(f"a {value.layout} tensor of {name} and {value.ndim} axes is not sent.")
    flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    contents.append(flat.view(torch.uint8).numpy().tobytes())
    return ["T", name, *value.shape]


def _array_tree(value: Any, contents: list[bytes]) -> list[Any]:
    name = value.dtype.name
    if name not in _ARRAYS or value.ndim > MAX_DIMENSIONS:
        raise ValueError(f"an array of {name} and {value.ndim} axes is not sent.")
    contents.append(np.ascontiguousarray(value, dtype=_ARRAYS[name]).tobytes())
    return ["N" if isinstance(value, np.ndarray) else "G", name, *value.shape]


def decode(message: bytes, *, opaque: Callable[[str], Any] | None = None) -> Any:
    """The value that a message holds.

    Args:
        message: any bytes at all.
        opaque: makes the stand-in for an object from its type's name; by default there is none.

    Raises:
        Malformed: the bytes are no message, hold more or less than they say, or are too large.
    """
    if len(message) > MAX_BYTES:
        raise Malformed(f"more than {MAX_BYTES:,} bytes")
    if message[:4] != MAGIC or len(message) < 8:
        raise Malformed("it does not begin as a message")
    size = int.from_bytes(message[4:8], "little")
    if size > MAX_HEADER or 8 + size > len(message):
        raise Malformed("the header's length is not true")
    try:
        tree = json.loads(
            message[8 : 8 + size].decode("utf-8"),
            parse_int=_whole,
            parse_float=_refuse,
            parse_constant=_refuse,
            object_pairs_hook=_refuse,
        )
    except Malformed:
        raise
    except (ValueError, RecursionError, MemoryError):
        raise Malformed("the header is not JSON") from None
    reader = _Reader(memoryview(message)[8 + size :], opaque)
    value = reader.value(tree, 0)
    if reader.left:
        raise Malformed("there is more than the header tells of")
    return value


def _refuse(_: Any) -> Any:
    raise Malformed("the header holds what no header may hold")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise Malformed("a whole number is too long")
    return int(digits)


class _Reader:
    """Builds the value, and takes the contents from the front as it meets them."""

    def __init__(self, contents: memoryview, opaque: Callable[[str], Any] | None) -> None:
        self.left = contents
        self._opaque = opaque
        self._nodes = 0

    def value(self, tree: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise Malformed("too many values, or nested too deep")
        if not isinstance(tree, list):
            return tree
        match tree:
            case ["l", *items]:
                return [self.value(item, depth + 1) for item in items]
            case ["t", *items]:
                return tuple(self.value(item, depth + 1) for item in items)
            case ["s", *items]:
                return self._hashed(set, [self.value(item, depth + 1) for item in items])
            case ["d", *parts] if len(parts) % 2 == 0:
                values = [self.value(part, depth + 1) for part in parts]
                pairs = list(zip(values[::2], values[1::2], strict=True))
                found = self._hashed(dict, pairs)
                if len(found) != len(pairs):
                    raise Malformed("a key stands twice in a dictionary")
                return found
            case ["i", str(digits)] if len(digits) <= _MAX_DIGITS + 1:
                return self._number(int, digits)
            case ["f", str(digits)]:
                return self._float(digits)
            case ["c", str(real), str(imaginary)]:
                return complex(self._float(real), self._float(imaginary))
            case ["y", int(length)]:
                return self._take(length)
            case ["D", str(name)] if name in _DTYPE_NAMES:
                return getattr(torch, name)
            case ["T", str(name), *shape] if name in _TENSORS:
                return self._tensor(_TENSORS[name], shape)
            case ["N" | "G" as mark, str(name), *shape] if name in _ARRAYS:
                array = self._array(_ARRAYS[name], shape)
                if mark == "G" and shape:
                    raise Malformed("a scalar has axes")
                return array if mark == "N" else array[()]
            case ["O", str(name)] if self._opaque is not None and len(name) <= 200:
                return self._opaque(name)
        raise Malformed("the header holds an unknown mark")

    def _float(self, digits: str) -> float:
        if len(digits) > 40:
            raise Malformed("a number is too long")
        return self._number(float.fromhex, digits)

    def _number(self, make: Callable[[str], Any], digits: str) -> Any:
        try:
            return make(digits)
        except (ValueError, OverflowError):
            raise Malformed("a number is none") from None

    def _hashed(self, make: Callable[[Any], Any], items: list[Any]) -> Any:
        try:
            return make(items)
        except TypeError:
            raise Malformed("a list cannot be in a set, nor be a key") from None

    def _take(self, length: int) -> bytes:
        if isinstance(length, bool) or not 0 <= length <= len(self.left):
            raise Malformed("the contents are shorter than the header says")
        taken, self.left = bytes(self.left[:length]), self.left[length:]
        return taken

    def _shape(self, shape: list[Any]) -> tuple[int, ...]:
        axes = tuple(shape)
        fits = all(type(axis) is int and 0 <= axis <= _MAX_AXIS for axis in axes)
        if len(axes) > MAX_DIMENSIONS or not fits:
            raise Malformed("the shape of a tensor is not allowed")
        return axes

    def _tensor(self, dtype: torch.dtype, shape: list[Any]) -> torch.Tensor:
        axes = self._shape(shape)
        content = bytearray(self._take(math.prod(axes) * dtype.itemsize))
        if dtype is torch.bool and content.strip(b"\0\1"):
            raise Malformed("a truth value is neither 0 nor 1")
        if not content:
            return torch.empty(axes, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype).reshape(axes)

    def _array(self, dtype: np.dtype, shape: list[Any]) -> Any:
        axes = self._shape(shape)
        content = bytearray(self._take(math.prod(axes) * dtype.itemsize))
        if dtype == np.bool_ and content.strip(b"\0\1"):
            raise Malformed("a truth value is neither 0 nor 1")
        return np.frombuffer(content, dtype=dtype).reshape(axes)
