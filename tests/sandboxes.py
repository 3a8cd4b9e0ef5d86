"""Sandboxes for tests: the one that works here, or the reason why a test is not run."""

import functools
import os

import pytest

from course_pkg.grading import orders, sandbox, wire
from course_pkg.grading.sandbox import Kind, Limits, Sandbox


@functools.cache
def found() -> Kind | str:
    """The sandbox that works on this machine, or why there is none."""
    try:
        return sandbox.find()
    except ValueError as error:
        return str(error)


def kind() -> Kind:
    """The sandbox that works on this machine; the test is not run where there is none."""
    there = found()
    if isinstance(there, str):
        if os.environ.get("COURSE_NEEDS_SANDBOX"):
            pytest.fail(f"there must be a sandbox here: {there}")
        pytest.skip(f"not run: no sandbox ({there})")
    return there


def order(cell: str, *inputs, time_limit: float = 5.0, cell_limit: float = 5.0) -> bytes:
    """An order for any code at all: ``answer(*inputs)`` is called once."""
    return wire.encode(
        {
            "exercise": "a test",
            "seed": 1,
            "folder": orders.FOLDER,
            "inert": [],
            "answer": "answer",
            "form": ("the function answer", len(inputs), False, False),
            "looks": [("course_pkg.checks.engine", "call", (), [tuple(inputs)], None)],
            "given": [],
            "earlier": [],
            "modules": {},
            "time_limit": time_limit,
            "cell_limit": cell_limit,
            "cell": cell,
            "extras": [],
        }
    )


def ask(box: Sandbox, cell: str, *inputs, **limits):
    """What ``answer(*inputs)`` returns in a sandbox; what it raised, as text."""
    reply = box.run(order(cell, *inputs, **limits))
    if not reply.content:
        return f"no reply: {reply.ended}"
    seen = wire.decode(reply.content, opaque=str)
    if seen["seen"] is None:
        return f"no answer: {seen.get('problem') or seen['error']}"
    ((entry,),) = seen["seen"]
    return entry[1] if entry[0] == "value" else f"{entry[1]}: {entry[2]}"


SHORT = Limits(wall=20.0, cpu=12, memory=4 * 2**30)
