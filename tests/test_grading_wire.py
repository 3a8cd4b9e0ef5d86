"""The codec between the sandbox and the grader: what goes in comes out, and nothing else happens.

The bytes that ``decode`` gets are a stranger's. Whatever they are, it raises ``Malformed`` or
returns plain data, with little memory, and calls, imports and opens nothing.
"""

import ast
import contextlib
import importlib.util
import json
import math
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_pkg.checks.compare import Opaque
from course_pkg.checks.engine import find_exercise
from course_pkg.grading import orders, wire
from course_pkg.grading.wire import Malformed, decode, encode

ROOT = Path(__file__).parents[1]
PRIME = 2**61 - 1  # a whole number's hash is its remainder


# Plain data


def _content(dtype_size: int, shape: tuple[int, ...], is_bool: bool) -> st.SearchStrategy[bytes]:
    size = math.prod(shape) * dtype_size
    if is_bool:
        return st.lists(st.booleans(), min_size=size, max_size=size).map(bytes)
    return st.binary(min_size=size, max_size=size)


@st.composite
def tensors(draw: Any) -> torch.Tensor:
    dtype = draw(st.sampled_from(sorted(wire._TENSORS.values(), key=str)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=wire.MAX_DIMENSIONS)))
    content = bytearray(draw(_content(dtype.itemsize, shape, dtype is torch.bool)))
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(shape)


@st.composite
def arrays(draw: Any) -> Any:
    dtype = draw(st.sampled_from(sorted(wire._ARRAYS.values(), key=str)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=wire.MAX_DIMENSIONS)))
    content = draw(_content(dtype.itemsize, shape, dtype == np.bool_))
    array = np.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
    return array[()] if not shape and draw(st.booleans()) else array


LARGEST = 10**wire.MAX_DIGITS - 1
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of pairs too
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-LARGEST, LARGEST) | st.floats()
    | st.complex_numbers() | TEXTS | st.binary(max_size=8)
    | st.sampled_from([torch.float32, torch.bool, torch.float8_e4m3fn, torch.long])
)  # fmt: skip
KEYS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
PLAIN = st.recursive(
    SCALARS | tensors() | arrays() | st.sets(KEYS, max_size=4) | st.frozensets(KEYS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def fingerprint(value: Any) -> Any:
    """Everything that may be seen of plain data, down to the bits."""
    kind = type(value).__name__
    match value:
        case np.ndarray() | np.generic():
            return kind, str(value.dtype), value.shape, value.tobytes()
        case torch.Tensor():
            flat = value.contiguous().reshape(-1)
            return kind, str(value.dtype), tuple(value.shape), flat.view(torch.uint8).tolist()
        case float():
            return kind, "nan" if value != value else struct.pack("<d", value)
        case complex():
            return kind, fingerprint(value.real), fingerprint(value.imag)
        case list() | tuple():
            return kind, [fingerprint(item) for item in value]
        case set() | frozenset():
            return kind, sorted((fingerprint(item) for item in value), key=repr)
        case dict():
            pairs = [(fingerprint(key), fingerprint(item)) for key, item in value.items()]
            return kind, pairs
    return kind, value


def framed(header: bytes | str, contents: bytes = b"") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    return wire.MAGIC + len(header).to_bytes(4, "little") + header + contents


# What goes in comes out


@given(PLAIN)
@settings(max_examples=300, deadline=None)
@example([-0.0, 0.0, 5e-324, float("nan"), float("-inf"), math.pi])
@example(["\ud800\udc00", "\udc00\ud800", "\U00010000", '\0\x1f\x7f\u2028"\\', ""])
@example([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, LARGEST, -LARGEST, True, 1, 1.0])
@example({(1, 2): [torch.tensor(3.0), np.float64(2.0)], frozenset({1}): np.array(1)})
@example([complex(-0.0, float("nan")), b"", b"GPW1", "l", ["l"], ("t",), {"d": "d"}])
def test_plain_data_comes_back_bit_for_bit(value: Any) -> None:
    message = encode(value)
    assert fingerprint(decode(message)) == fingerprint(value)
    assert fingerprint(decode(encode(decode(message)))) == fingerprint(value)


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC00000, 0x80000000, 0x00000001, 0x7F800000])
def test_a_tensors_bits_are_kept(bits: int) -> None:
    tensor = torch.tensor([bits - 2**32 if bits >= 2**31 else bits], dtype=torch.int32)
    found = decode(encode(tensor.view(torch.float32)))
    assert found.view(torch.int32).tolist() == tensor.tolist()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[::3],
        torch.ones(1).expand(5, 7),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(3, dtype=torch.complex128).conj().imag,  # is negated when it is read
        torch.randn(2, requires_grad=True) * 2,
        torch.nn.Parameter(torch.ones(2, 2)),
        torch.zeros(0, 5)[:, ::2],
    ],
)
def test_a_view_is_sent_as_what_it_shows(tensor: torch.Tensor) -> None:
    found = decode(encode(tensor))
    assert type(found) is torch.Tensor and not found.requires_grad
    assert found.dtype == tensor.dtype and found.shape == tensor.shape
    assert torch.equal(found, tensor.detach())


def test_foreign_byte_orders_and_strides() -> None:
    for array in (np.arange(6, dtype=">i4").reshape(2, 3).T, np.arange(9.0)[::-2]):
        assert np.array_equal(decode(encode(array)), array)


def test_what_was_decoded_may_be_changed() -> None:
    tensor, array = decode(encode((torch.zeros(3), np.zeros(3))))
    tensor += 1
    array += 1
    assert tensor.sum() == array.sum() == 3


def test_opaque_objects_keep_their_name_only() -> None:
    message = encode([Opaque("Linear"), {Opaque("a"): 1}], opaque=Opaque)
    assert decode(message, opaque=Opaque) == [Opaque("Linear"), {Opaque("a"): 1}]
    with pytest.raises(Malformed):
        decode(message)
    with pytest.raises(ValueError, match="Opaque is no plain data"):
        encode(Opaque("Linear"))


# A subclass has no say


class _Tensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"{function} was asked")


class _Array(np.ndarray):
    def tobytes(self, *args: Any) -> bytes:
        return b"lies"

    @property
    def shape(self) -> Any:
        return (1,)

    def __array_finalize__(self, other: Any) -> None:
        pass


class _Int(int):
    def __abs__(self) -> int:
        return 5

    def __str__(self) -> str:
        return "5"

    def __int__(self) -> int:
        return 5

    __index__ = __int__


class _Float(float):
    def hex(self) -> str:
        return "0x1p+0"

    def __float__(self) -> float:
        return 1.0


class _Complex(complex):
    real = imag = 1.0  # type: ignore[assignment]

    def __complex__(self) -> complex:
        return 1 + 1j


class _Str(str):
    def __str__(self) -> str:
        return "lies"

    def encode(self, *args: Any) -> bytes:
        return b"lies"


class _Bytes(bytes):
    def __bytes__(self) -> bytes:
        return b"lies"

    def __len__(self) -> int:
        return 4


class _List(list):
    def __iter__(self) -> Iterator[Any]:
        return iter(["lies"])


class _Tuple(tuple):
    def __iter__(self) -> Iterator[Any]:
        return iter(["lies"])


class _Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("subclass", "plain"),
    [
        (torch.arange(3.0).as_subclass(_Tensor), torch.arange(3.0)),
        (np.arange(3).view(_Array), np.arange(3)),
        (_Int(7), 7),
        (_Int(2**70), 2**70),
        (_Float(0.5), 0.5),
        (_Complex(2j), 2j),
        (_Str("truth"), "truth"),
        (_Bytes(b"truth"), b"truth"),
        (_List([1, 2]), [1, 2]),
        (_Tuple([1, 2]), (1, 2)),
        (_Point(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (np.str_("text"), "text"),
        (np.bytes_(b"text"), b"text"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_is_sent_as_what_is_underneath(subclass: Any, plain: Any) -> None:
    assert fingerprint(decode(encode(subclass))) == fingerprint(plain)


# What is not sent


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _doubled(times: int) -> Any:
    """A value of 2**times parts in little memory."""
    value: Any = 0
    for _ in range(times):
        value = [value, value]
    return value


def _in_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: 10**wire.MAX_DIGITS, "digits"),
        (lambda: 1 << 40_000_000, "digits"),
        (lambda: _nested(wire.MAX_DEPTH + 1), "deep"),
        (_in_itself, "deep"),
        (lambda: _doubled(30), "more than 50,000 values"),
        (lambda: [0] * wire.MAX_NODES, "more than 50,000 values"),
        (lambda: "x" * (wire.MAX_HEADER + 1), "the header has"),
        (lambda: bytes(wire.MAX_BYTES), "bytes"),
        (lambda: torch.ones(1).expand(2**40), "too large"),
        (lambda: [torch.ones(1).expand(2**23)] * 3, "too large"),
        (lambda: np.broadcast_to(np.ones(1), (2**33,)), "too large"),
        (lambda: torch.empty(2**21, 0), "too large"),
        (lambda: torch.empty([1] * 7), "7 axes"),
        (lambda: np.empty([1] * 7), "7 axes"),
        (lambda: torch.empty(3, device="meta"), "cannot be read"),
        (lambda: torch.eye(3).to_sparse(), "is not sent"),
        (lambda: torch.zeros(2, dtype=torch.float8_e4m3fn), "is not sent"),
        (lambda: np.array([object()]), "object"),
        (lambda: np.array("text"), "is not sent"),
        (lambda: np.zeros(1, dtype=[("a", int)]), "is not sent"),
        (lambda: np.datetime64("2020"), "is not sent"),
        (lambda: object(), "an object of type object"),
        (lambda: [len], "builtin_function_or_method"),
        (lambda: {i * PRIME for i in range(1, 18)}, "one hash"),
        (lambda: dict.fromkeys(i * PRIME for i in range(1, 18)), "one hash"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_in_words(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode(make())


def test_the_limits_themselves_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_NODES", 500)
    for value in (
        _nested(wire.MAX_DEPTH),
        [0] * (wire.MAX_NODES - 1),
        [1.5] * (wire.MAX_NODES - 1),
        [1 - 2j] * (wire.MAX_NODES - 1),
        {i * PRIME for i in range(1, 17)},
        torch.ones(1).expand(2**23),
        torch.empty(2**20, 0),
    ):
        assert fingerprint(decode(encode(value))) == fingerprint(value)


# Bytes of a stranger


RICH = {
    "numbers": [1, -(2**70), 0.1, -0.0, 1 - 2j, None, True],
    ("a", 1): (torch.arange(6.0).reshape(2, 3), torch.tensor(True), torch.empty(0, 2)),
    "arrays": [np.arange(4, dtype=np.int16), np.float32(2.5)],
    "sets": {"one", 2, frozenset({3})},
    "more": [b"bytes", "täxt \U0001f600", torch.bfloat16, Opaque("Module")],
}
MESSAGE = encode(RICH, opaque=Opaque)


def survives(message: bytes) -> bool:
    """Whether bytes were a message; anything but ``Malformed`` gets out."""
    try:
        found = decode(message, opaque=Opaque)
    except Malformed as error:
        assert str(error).isprintable() and len(str(error)) < 100
        return False
    encode(found, opaque=Opaque)  # it is plain data
    return True


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes(content: bytes) -> None:
    survives(content)
    survives(wire.MAGIC + content)
    survives(framed(content[: len(content) // 2], content[len(content) // 2 :]))


MARKS = st.sampled_from([*"ltsdzifcyDTNGO", "", "x", "__reduce__"])
NAMES = st.sampled_from([
    "float32", "bool", "bfloat16", "int64", "object", "O", "str", "void", "uint16", "float8_e4m3fn",
    "load", "Tensor", "__class__", "0x1p+0", "nan", "inf", "0x1p+1024", "-5", "1_0", "٣",
])  # fmt: skip
HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.integers(-(2**70), 2**70) | NAMES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(MARKS, st.lists(inner, max_size=6)).map(lambda pair: [pair[0], *pair[1]])
        | st.tuples(MARKS, NAMES, st.lists(st.integers(0, 3), max_size=7)).map(
            lambda three: [three[0], three[1], *three[2]]
        )
    ),
    max_leaves=20,
)


@given(HEADERS, st.binary(max_size=64))
@settings(max_examples=500, deadline=None)
def test_any_header(tree: Any, contents: bytes) -> None:
    survives(framed(json.dumps(tree), contents))


@given(st.randoms(use_true_random=False), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_changed_messages(dice: random.Random, changes: int) -> None:
    message = bytearray(MESSAGE)
    for _ in range(changes):
        at = dice.randrange(len(message))
        match dice.randrange(3):
            case 0:
                message[at] = dice.randrange(256)
            case 1:
                del message[at]
            case 2:
                message[at:at] = message[dice.randrange(len(message)) :][: dice.randrange(9)]
    survives(bytes(message))


def test_every_beginning_of_a_message() -> None:
    assert survives(MESSAGE)
    for length in range(len(MESSAGE)):
        with pytest.raises(Malformed):
            decode(MESSAGE[:length], opaque=Opaque)
    for more in (b"\0", b"GPW1", MESSAGE):
        with pytest.raises(Malformed, match="more than the header tells of"):
            decode(MESSAGE + more, opaque=Opaque)


_went_off: list[str] = []


def _go_off(text: str) -> None:
    _went_off.append(text)


class _Bomb:
    def __reduce__(self) -> Any:
        return _go_off, ("went off",)


BOMB = pickle.dumps(_Bomb())


HUGE = 2**31 - 1
HOSTILE = {
    "empty": b"",
    "no header": wire.MAGIC,
    "other magic": b"GPW2\x01\0\0\0001",
    "long header": wire.MAGIC + b"\xff\xff\xff\xff1",
    "header past the end": wire.MAGIC + b"\x02\0\0\0001",
    "empty header": framed(""),
    "not utf-8": framed(b'"\xff\xfe"'),
    "utf-16": framed("[1]".encode("utf-16")),
    "mark of byte order": framed(b"\xef\xbb\xbf1"),
    "two values": framed("1 2"),
    "no end": framed('["l"'),
    "object": framed("{}"),
    "object inside": framed('["l",{"a":1}]'),
    "NaN": framed("NaN"),
    "infinity": framed('["l",-Infinity]'),
    "float": framed("1.5"),
    "exponent": framed("1e999999999"),
    "long number": framed("1" * 4000),
    "number of a million digits": framed('["i","' + "1" * 10**6 + '"]'),
    "digits and more": framed('["i","1_0"]'),
    "other digits": framed('["i","\u0663"]'),
    "spaces": framed('["i"," 1"]'),
    "too many digits": framed(json.dumps(["i", "1" * (wire.MAX_DIGITS + 1)])),
    "float too large": framed('["f","0x1p+1024"]'),
    "float in decimals": framed('["f","1.5"]'),
    "long float": framed(json.dumps(["f", "0x1." + "0" * 50 + "p+0"])),
    "half a complex": framed('["c","nan"]'),
    "deep": framed("[" * 10**6 + "]" * 10**6),
    "deep marks": framed('["l",' * 40 + "1" + "]" * 40),
    "deep tuples as keys": framed('["s",' + '["t",' * 40 + "1" + "]" * 41),
    "many empty lists": framed("[" + "[]," * 10**6 + "[]]"),
    "many lists": framed('["l"' + ',["l"]' * 50_000 + "]"),
    "many zeros": framed('["l"' + ",0" * 10**6 + "]"),
    "many tensors": framed('["l"' + ',["T","bool",0]' * 50_000 + "]"),
    "many quotes": framed(b'"' * 4 * 10**5),
    "many escaped quotes": framed(b'"' + b'\\"' * 10**6),
    "key twice": framed('["d","a",1,"a",2]'),
    "equal keys": framed('["d",1,1,["f","0x1.0000000000000p+0"],2]'),
    "item twice": framed('["s",1,1]'),
    "key without a value": framed('["d",1]'),
    "list as a key": framed('["d",["l"],1]'),
    "set in a set": framed('["s",["s"]]'),
    "array in a set": framed('["s",["N","bool",0]]'),
    "same hashes": framed(json.dumps(["s", *(["i", str(i * PRIME)] for i in range(1, 4_000))])),
    "same hashes, small": framed(json.dumps(["s", *(["i", str(i * PRIME)] for i in range(1, 40))])),
    "same hashes, floats": framed(
        json.dumps(["s", *(["f", math.ldexp(1.0, 61 * i).hex()] for i in range(-8, 12))])
    ),
    "same hashes, complex": framed(
        json.dumps(["s", *(["c", float(-1000003 * i).hex(), float(i).hex()] for i in range(50))])
    ),
    "unknown mark": framed('["q",1]'),
    "no mark": framed("[]"),
    "list as a mark": framed('[["l"],1]'),
    "bytes past the end": framed('["y",5]', b"four"),
    "less than no bytes": framed('["y",-1]'),
    "true bytes": framed('["y",true]', b"1"),
    "unknown dtype": framed('["D","load"]'),
    "private dtype": framed('["D","__class__"]'),
    "object tensor": framed('["T","object",1]', b"8 bytes!"),
    "object array": framed('["N","object",1]', BOMB),
    "text array": framed('["N","str",1]', b"four"),
    "void array": framed('["N","V8",1]', b"8 bytes!"),
    "bfloat16 array": framed('["N","bfloat16",1]', b"22"),
    "negative axis": framed('["T","float32",-1]'),
    "two negative axes": framed('["T","float32",-1,-1]', b"four"),
    "true axis": framed('["T","float32",true]', b"four"),
    "text axis": framed('["T","float32","1"]', b"four"),
    "list as a shape": framed('["T","float32",[1]]', b"four"),
    "null axis": framed('["T","float32",null]', b"four"),
    "seven axes": framed('["T","float32",1,1,1,1,1,1,1]', b"four"),
    "sixty axes": framed(json.dumps(["N", "float32", *[1] * 60]), b"four"),
    "more than is there": framed('["T","float32",2]', b"four"),
    "less than is there": framed('["T","float32",1]', b"fours"),
    "huge shape": framed(json.dumps(["T", "float32", HUGE, HUGE, HUGE]), b"four"),
    "shape that wraps around": framed(json.dumps(["T", "int64", 2**30, 2**30, 16]), b"8 bytes!"),
    "axis of 2**64 + 1": framed(json.dumps(["T", "int8", 2**64 + 1]), b"1"),
    "axes around nothing": framed(json.dumps(["T", "float32", HUGE, HUGE, 0])),
    "axes around nothing, array": framed(json.dumps(["N", "float32", 0, HUGE])),
    "axis of four million": framed(json.dumps(["T", "uint8", 2**22, 0])),
    "truth value 2": framed('["T","bool",1]', b"\2"),
    "array's truth value 2": framed('["N","bool",1]', b"\2"),
    "scalar with axes": framed('["G","bool",1]', b"\1"),
    "long type name": framed(json.dumps(["O", "x" * 201])),
    "type name of a number": framed('["O",1]'),
    "pickle": BOMB,
    "pickle after the magic": wire.MAGIC + BOMB,
    "pickle as a header": framed(BOMB),
    "archive of NumPy": b"\x93NUMPY\x01\0",
    "archive of PyTorch": b"PK\x03\x04",
    "too large": bytes(wire.MAX_BYTES + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_malformed(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(HOSTILE[name], opaque=Opaque)
    assert type(caught.value) is Malformed
    assert str(caught.value).isprintable() and len(str(caught.value)) < 100


def test_more_than_the_interpreters_depth_is_no_header_either() -> None:
    """The limit is ours: it does not lean on the interpreter's, which other versions lift."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        for header in ("[" * 2 * 10**6, "[" * 36 + "]" * 36, '["l",' * 10**5 + "]" * 10**5):
            with pytest.raises(Malformed, match=r"too (deep|many)"):
                decode(framed(header))
    finally:
        sys.setrecursionlimit(limit)


# Memory


def _peak(message: bytes) -> int:
    tracemalloc.start()
    try:
        with contextlib.suppress(Malformed):
            decode(message, opaque=Opaque)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BLOCK = 2**20
LARGE_AND_RIGHT = {
    "tensor": encode(torch.zeros(8 * BLOCK // 4)),
    "array": encode(np.zeros(8 * BLOCK // 8)),
    "bytes": encode(bytes(8 * BLOCK)),
    "truth": encode(torch.zeros(8 * BLOCK, dtype=torch.bool)),
    "text": encode("\U0001f600" * (BLOCK // 2)),
    "lists": framed('["l"' + ',["l"]' * 4_000 + "]"),
    "sets": framed('["l"' + ',["s"]' * 4_000 + "]"),
    "floats": framed('["l"' + ',["f","inf"]' * 4_000 + "]"),
    "shared pieces": framed('["l"' + ',"ab"' * 4_000 + "]"),
}


# The whole number of values is left to the process below: tracing each takes long.
SLOW = {"many lists", "many tensors"}


@pytest.mark.parametrize("name", [*sorted(HOSTILE.keys() - SLOW), *LARGE_AND_RIGHT])
def test_memory_is_a_small_multiple_of_the_message(name: str) -> None:
    message = {**HOSTILE, **LARGE_AND_RIGHT}[name]
    header = min(int.from_bytes(message[4:8], "little"), len(message))
    # Python's smallest list takes 64 bytes for the 6 that write it; an empty set 216.
    allowed = 2 * len(message) + min(64 * header, 512 * wire.MAX_NODES) + BLOCK // 16
    assert _peak(message) <= allowed


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_no_message_takes_much_memory_outside_of_python_either() -> None:
    """Tensors are not Python's memory: another process has a hundred megabytes for each message."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from course_pkg.grading import wire
messages = [bytes.fromhex(line) for line in sys.stdin.read().split()]
wire.decode(wire.encode([wire.torch.ones(2), wire.np.ones(2)]))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, used + 100 * 2**20))
for message in messages:
    try:
        wire.decode(message)
    except wire.Malformed:
        pass
print("fine")
"""
    several = [
        framed('["l"' + ',["T","bool",0]' * 49_000 + "]"),
        framed('["l"' + ',["N","bool",0]' * 49_000 + "]"),
        framed('["l"' + f',["T","float32",{2**20},0]' * 49_000 + "]"),
        *(HOSTILE[name] for name in ("huge shape", "axes around nothing", *sorted(SLOW))),
        encode(torch.zeros(16 * BLOCK // 4)),
    ]
    told = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(message.hex() for message in several),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert told.stdout == "fine\n", told.stderr[-2000:]


# Nothing is called


_watched: list[str] | None = None
_FORBIDDEN = (
    "import", "exec", "compile", "open", "pickle", "marshal", "os.", "subprocess", "socket",
    "ctypes", "shutil", "code.__new__", "function.__new__",
)  # fmt: skip


def _hook(event: str, args: Any) -> None:
    if _watched is not None and event.startswith(_FORBIDDEN):
        _watched.append(f"{event} {args!r:.100}")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes what is imported, run or opened; whoever loads pickles gets an error."""
    global _watched

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was unpickled")

    for module, names in {
        "pickle": ("load", "loads", "Unpickler", "_loads", "_load", "_Unpickler"),
        "_pickle": ("load", "loads", "Unpickler"),
        "dill": ("load", "loads", "Unpickler"),
        "marshal": ("load", "loads"),
        "torch": ("load",),
        "numpy": ("load", "loadtxt", "genfromtxt", "fromfile"),
    }.items():
        if importlib.util.find_spec(module) is not None:
            for name in names:
                monkeypatch.setattr(importlib.import_module(module), name, refuse)
    if not hasattr(_hook, "is_added"):
        sys.addaudithook(_hook)  # it cannot be taken away again, and is silent elsewhere
        _hook.is_added = True  # type: ignore[attr-defined]
    seen: list[str] = []
    try:
        yield seen
    finally:
        _watched = None


@contextlib.contextmanager
def watching(seen: list[str]) -> Iterator[None]:
    global _watched
    _watched = seen
    try:
        yield
    finally:
        _watched = None


def test_the_watch_sees_something(watched: list[str]) -> None:
    with watching(watched), contextlib.suppress(AssertionError):
        compile("1", "<here>", "eval")
        Path(os.devnull).open().close()
        pickle.loads(b"N.")
    assert [line.split()[0] for line in watched] == ["compile", "open"]


def test_decoding_imports_opens_and_calls_nothing(watched: list[str]) -> None:
    survives(MESSAGE)  # what PyTorch does only the first time
    with watching(watched):
        for message in (MESSAGE, *HOSTILE.values()):
            with contextlib.suppress(Malformed):
                decode(message, opaque=Opaque)
        inside = decode(framed(f'["y",{len(BOMB)}]', BOMB))
    assert watched == []
    assert inside == BOMB and _went_off == []


def test_the_bomb_would_go_off() -> None:
    try:
        pickle.loads(BOMB)
        assert _went_off == ["went off"]
    finally:
        _went_off.clear()


def test_reading_a_reply_imports_opens_and_calls_nothing(watched: list[str]) -> None:
    exercise = find_exercise("03.split_heads")
    desk = orders.Desk({})
    sizes = [len(look.calls) for look in dict.fromkeys(desk.looks(exercise, 1).values())]
    seen = [[("value", torch.ones(2), ())] * size for size in sizes]
    reply = {"oddities": [], "error": None, "seen": seen, "printed": ""}
    right = encode({**reply, "defined": True, "problem": None, "started": True})
    desk.read(exercise, 1, right)
    with watching(watched):
        assert desk.read(exercise, 1, right).recording is not None
        for message in HOSTILE.values():
            with pytest.raises(Malformed):
                desk.read(exercise, 1, message)
    assert watched == [] and _went_off == []


# Where code may be made out of data at all. guest.py is what runs inside the sandbox, where the
# student's code is run: that is its purpose. read_hidden runs an instructor's own file.
MAY_RUN = {
    ("guest.py", "exec"), ("guest.py", "compile"), ("guest.py", "exec_module"),
    ("grader.py", "exec_module"),
}  # fmt: skip
LOADERS = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
    "jsonpickle", "yaml", "runpy", "imp", "code",
}  # fmt: skip
RUNNERS = {"eval", "exec", "compile", "__import__", "exec_module", "load_module", "execfile"}


def _uses(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (n.name for n in names if n.name.partition(".")[0] in LOADERS)
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] in LOADERS:
                    yield module
                loads = {"torch", "numpy"} & {module} and {n.name for n in names} & {"load"}
                yield from (f"{module}.{name}" for name in loads)
            case ast.Name(name) if name in RUNNERS:
                yield name
            case ast.FunctionDef(name=name) if name in RUNNERS:
                yield name
            case ast.Attribute(ast.Name("torch" | "np" | "numpy" as module), "load" as name):
                yield f"{module}.{name}"
            case ast.Attribute(value=value, attr=name) if name in RUNNERS:
                if not (isinstance(value, ast.Name) and value.id == "re"):
                    yield name
            case ast.keyword(arg="allow_pickle" | "weights_only" as name):
                yield name


def test_the_grader_loads_nothing_that_runs() -> None:
    files = [*sorted((ROOT / "course_pkg" / "grading").rglob("*.py"))]
    files.append(ROOT / "course_pkg" / "teaching.py")
    assert {"wire.py", "guest.py", "orders.py", "grader.py"} <= {path.name for path in files}
    found = {(path.name, use) for path in files for use in _uses(path)}
    assert found == MAY_RUN


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from dill import loads", "import torch; torch.load(f)", "np.load(f)",
        "eval('1')", "x = exec", "from numpy import load", "loader.exec_module(m)",
        "builtins.eval('1')", "np.fromfile(f, allow_pickle=True)", "import yaml",
    ],
)  # fmt: skip
def test_the_search_finds_each_of_them(line: str, tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(line)
    assert list(_uses(path))


# The fuzzer


def test_the_fuzzer_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it has no wheel for some versions of Python")
    told = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fuzz_wire.py")), "-runs=20000",
         "-max_len=4096", "-seed=4", f"-artifact_prefix={tmp_path}/"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    assert "Done 20000" in told.stderr
