"""Plain data as bytes, and back from bytes that nobody vouches for.

A message is ``b"GPW1"``, the length of a header (4 bytes, little-endian), the header, and the
contents of tensors, arrays and byte strings, one after the other. The header is JSON that holds
lists, strings, whole numbers, true, false and null only; all else is a list that begins with a
mark. Nothing is ever unpickled, and ``decode`` believes nothing: every length is checked against
what is there, and what is allocated is a small multiple of what the message holds. ``encode``
refuses what ``decode`` would refuse.

This module is also what the sandbox encodes with, so it imports nothing of the package.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
import torch

MAGIC = b"GPW1"
MAX_BYTES = 64 * 2**20  # of a whole message
MAX_HEADER = 4 * 2**20
MAX_NODES = 50_000  # values; the largest order has 9,000, the largest honest reply 700
MAX_DEPTH = 32
MAX_DIMENSIONS = 6
_MAX_AXIS = 2**31 - 1
MAX_DIGITS = 300  # of a whole number, so that each may become a float
_WHOLE = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}")
_FLOAT = re.compile(r"-?(0x[01](\.[0-9a-f]{1,13})?p[+-][0-9]{1,4}|inf|nan)")
# A tensor without values costs its sender nothing, and its reader much: what is reduced over an
# empty axis has as many values as the other axes say.
_MAX_AROUND_NOTHING = 2**20
# Numbers and tuples can be chosen so that all have one hash: a set of them takes quadratic time.
_MAX_SAME_HASH = 16
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # or up to the end
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]"))

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
    writer = _Writer(opaque)
    tree = writer.tree(value, 0)
    # Without \\u escapes: two of them, for the halves of a pair, would be read as one character.
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
    header = text.encode("utf-8", "surrogatepass")
    if len(header) > MAX_HEADER:
        raise ValueError(f"the header has {len(header):,} bytes: at most {MAX_HEADER:,} are sent.")
    message = b"".join([MAGIC, len(header).to_bytes(4, "little"), header, *writer.contents])
    _check_size(header)
    if len(message) > MAX_BYTES:
        raise ValueError(f"the value has {len(message):,} bytes: at most {MAX_BYTES:,} are sent.")
    return message


class _Writer:
    """Builds the header, and collects the contents.

    A number, text, list, tensor or array of a subclass is sent as what it is underneath: the
    subclass has no say.
    """

    def __init__(self, opaque: type | None) -> None:
        self.contents: list[bytes] = []
        self._opaque = opaque
        self._size = 0
        self._nodes = 0

    def tree(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the value is nested more than {MAX_DEPTH} deep.")
        if self._nodes > MAX_NODES:
            raise ValueError(f"the value holds more than {MAX_NODES:,} values.")
        match value:
            case None | bool():
                return value
            case np.ndarray() | np.generic() if not isinstance(value, (str, bytes)):
                return self._array(value)
            case int():
                number = int.__index__(value)
                if abs(number) < 2**63:
                    return number
                if abs(number) >= 10**MAX_DIGITS:
                    raise ValueError(f"a whole number has more than {MAX_DIGITS} digits.")
                return ["i", str(number)]
            case float():
                return ["f", float.hex(value)]
            case complex():
                return ["c", *(float.hex(part) for part in _parts(value))]
            case str():
                return str.__str__(value)
            case bytes():
                return ["y", self._add(bytes(memoryview(value)))]
            case torch.dtype():
                return ["D", str(value).removeprefix("torch.")]
            case torch.Tensor():
                return self._tensor(value)
            case list():
                return ["l", *self._trees(list.__iter__(value), depth)]
            case tuple():
                return ["t", *self._trees(tuple.__iter__(value), depth)]
            case set() | frozenset():
                items = list(value)
                _refuse_same_hashes(items)
                mark = "s" if isinstance(value, set) else "z"
                return [mark, *self._trees(items, depth)]
            case Mapping():
                pairs = list(value.items())
                _refuse_same_hashes([key for key, _ in pairs])
                return ["d", *self._trees((part for pair in pairs for part in pair), depth)]
        if self._opaque is not None and isinstance(value, self._opaque):
            return ["O", str(value.type_name)[:200]]  # type: ignore[attr-defined]
        raise ValueError(f"an object of type {type(value).__name__} is no plain data.")

    def _trees(self, items: Iterable[Any], depth: int) -> Iterable[Any]:
        return (self.tree(item, depth + 1) for item in items)

    def _add(self, content: bytes) -> int:
        self.contents.append(content)
        return len(content)

    def _reserve(self, kind: str, size: int, shape: tuple[int, ...]) -> None:
        """Refuse before anything is copied: a view may be larger than its memory."""
        self._size += size
        if self._size > MAX_BYTES or _is_vast_nothing(shape):
            raise ValueError(f"{kind} of shape {shape} is too large to be sent.")
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"{kind} of {len(shape)} axes is not sent.")

    def _tensor(self, value: torch.Tensor) -> list[Any]:
        with torch._C.DisableTorchFunctionSubclass():
            name = str(value.dtype).removeprefix("torch.")
            shape = tuple(value.shape)
            if name not in _TENSORS or value.layout != torch.strided:
                raise ValueError(f"a {value.layout} tensor of {name} is not sent.")
            self._reserve("a tensor", value.numel() * value.dtype.itemsize, shape)
            try:
                plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
                self._add(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
            except (RuntimeError, TypeError) as error:  # such as one without memory
                raise ValueError(f"a tensor cannot be read: {type(error).__name__}.") from None
        return ["T", name, *shape]

    def _array(self, value: Any) -> list[Any]:
        base = np.asarray(value)
        name = base.dtype.name
        if name not in _ARRAYS:
            raise ValueError(f"an array of {name} is not sent.")
        self._reserve("an array", base.nbytes, base.shape)
        self._add(np.ascontiguousarray(base, dtype=_ARRAYS[name]).tobytes())
        return ["N" if isinstance(value, np.ndarray) else "G", name, *base.shape]


def _parts(value: complex) -> tuple[float, float]:
    plain = complex.__complex__(value)
    return plain.real, plain.imag


def _is_vast_nothing(shape: tuple[int, ...]) -> bool:
    return 0 in shape and math.prod(axis or 1 for axis in shape) > _MAX_AROUND_NOTHING


def _check_size(header: bytes) -> None:
    """What JSON makes of a header is many times its size: it is measured before that."""
    bare = _STRINGS.sub(b"", header)
    if bare.count(b"[") + bare.count(b",") > 4 * MAX_NODES:
        raise Malformed("too many values")
    steps = (1 if bracket == ord("[") else -1 for bracket in bare.translate(None, _NO_BRACKETS))
    if max(accumulate(steps), default=0) > MAX_DEPTH + 2:
        raise Malformed("nested too deep")


def _refuse_same_hashes(keys: list[Any]) -> None:
    hashes = sorted(map(hash, keys))
    if any(a == b for a, b in zip(hashes, hashes[_MAX_SAME_HASH:], strict=False)):
        raise Malformed(f"more than {_MAX_SAME_HASH} keys have one hash")


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
    _check_size(message[8 : 8 + size])
    try:
        tree = json.loads(
            message[8 : 8 + size].decode("utf-8", "surrogatepass"),
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
            case ["s" | "z" as mark, *items]:
                make = set if mark == "s" else frozenset
                return self._hashed(make, [self.value(item, depth + 1) for item in items])
            case ["d", *parts] if len(parts) % 2 == 0:
                values = [self.value(part, depth + 1) for part in parts]
                return self._hashed(
                    lambda keys: dict(zip(keys, values[1::2], strict=True)), values[::2]
                )
            case ["i", str(digits)] if _WHOLE.fullmatch(digits):
                return int(digits)
            case ["f", str(digits)]:
                return self._float(digits)
            case ["c", str(real), str(imaginary)]:
                return complex(self._float(real), self._float(imaginary))
            case ["y", int(length)]:
                return bytes(self._take(length))
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
        if not _FLOAT.fullmatch(digits):
            raise Malformed("a number is none")
        try:
            return float.fromhex(digits)
        except OverflowError:
            raise Malformed("a number is too large") from None

    def _hashed(self, make: Callable[[list[Any]], Any], keys: list[Any]) -> Any:
        try:
            _refuse_same_hashes(keys)
            found = make(keys)
        except TypeError:
            raise Malformed("a list cannot be in a set, nor be a key") from None
        if len(found) != len(keys):
            raise Malformed("a value stands twice in a set, or a key in a dictionary")
        return found

    def _take(self, length: int) -> memoryview:
        if isinstance(length, bool) or not 0 <= length <= len(self.left):
            raise Malformed("the contents are shorter than the header says")
        taken, self.left = self.left[:length], self.left[length:]
        return taken

    def _shape(self, shape: list[Any]) -> tuple[int, ...]:
        axes = tuple(shape)
        fits = all(type(axis) is int and 0 <= axis <= _MAX_AXIS for axis in axes)
        if len(axes) > MAX_DIMENSIONS or not fits or _is_vast_nothing(axes):
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
