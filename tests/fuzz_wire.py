"""Fuzzes ``wire.decode`` and ``Desk.read``: ``python tests/fuzz_wire.py -runs=200000``.

The options are libFuzzer's. Whatever the bytes are, only ``Malformed`` may be raised; and what was
decoded must come out the same when it is encoded and decoded again.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(
    include=["course_pkg.grading", "json"], enable_loader_override=False
):
    from course_pkg.grading import orders, wire
from course_pkg.checks import engine
from course_pkg.checks.compare import Opaque

SEED = 1
# One whose answer is code, one that is a class, and one that is a value.
EXERCISES = [engine.find_exercise(name) for name in ("03.split_heads", "04.gelu", "02.shapes")]
DESK = orders.Desk({})
KNOWN = {exercise.id: engine.Known(exercise, SEED) for exercise in EXERCISES}


def replies() -> list[bytes]:
    """Right replies, and some of each other form."""
    found = []
    for exercise in EXERCISES:
        recording = engine.run(exercise, exercise.reference, seed=SEED)
        looks = DESK.looks(exercise, SEED)
        names = {id(look): name for name, look in reversed(looks.items())}
        seen = [
            [("value", entry.data, ("x",)) for entry in recording.seen[name]]
            for name in reversed(names.values())
        ]
        base = {"oddities": ["odd"], "error": None, "seen": seen, "printed": "text"}
        right = {**base, "defined": True, "problem": None, "started": True}
        error = ("ValueError", "text", 3, "x = 1", True, False)
        raised = [[("raised", *error) for _ in entries] for entries in seen]
        for reply in (
            base, right, {**right, "seen": raised}, {**right, "seen": None, "started": False},
            {**right, "seen": None, "problem": "text"}, {**base, "error": error, "seen": None},
            {"fault": "text"},
        ):  # fmt: skip
            found.append(wire.encode(reply, opaque=Opaque))
    found.append(
        wire.encode([{1, -(2**70), "a"}, (torch.float32, b"12", 1j, Opaque("x"))], opaque=Opaque)
    )
    return found


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Changes the header or the contents, and keeps the header's length true most of the time."""
    size = int.from_bytes(data[4:8], "little")
    if seed % 8 == 0 or data[:4] != wire.MAGIC or 8 + size > len(data):
        return atheris.Mutate(data, max_size)
    header, contents = data[8 : 8 + size], data[8 + size :]
    if seed % 8 == 1:
        contents = atheris.Mutate(contents, max(max_size - 8 - size, 1))
    else:
        header = atheris.Mutate(header, max(max_size - 8 - len(contents), 1))
    return wire.MAGIC + len(header).to_bytes(4, "little") + header + contents


def look(data: bytes) -> None:
    try:
        value = wire.decode(data, opaque=Opaque)
    except wire.Malformed:
        return
    again = wire.encode(value, opaque=Opaque)
    once_more = wire.encode(wire.decode(again, opaque=Opaque), opaque=Opaque)
    assert sorted(once_more) == sorted(again)  # a set is in no order
    for exercise in EXERCISES:
        try:
            seen = DESK.read(exercise, SEED, data)
        except wire.Malformed:
            continue
        if seen.recording is not None:
            judge(exercise, seen.recording)


def judge(exercise: engine.Exercise, recording: Any) -> None:
    known = KNOWN[exercise.id]
    report = engine.judge(exercise, recording, seed=SEED, known=known)
    if report.status == "failed" and report.problem is None:
        engine.recognise(recording, known)
    report.text().encode()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, reply in enumerate(replies()):
            (Path(folder) / f"{number}").write_bytes(reply)
        atheris.Setup([*sys.argv, folder], look, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
