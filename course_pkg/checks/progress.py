"""What a learner has done so far, kept beside their notebooks.

Each folder of notebooks has a journal, ``.course-progress.jsonl``: one line for each time an
exercise's state changed. It is only ever added to, and nothing of it leaves the machine. With
``COURSE_PROGRESS=0`` in the environment notebooks write no journal.
"""

import contextlib
import dataclasses
import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

JOURNAL = ".course-progress.jsonl"
STATES = ("not started", "raises", "failed", "passed")  # from the least to the most


@runtime_checkable
class Outcome(Protocol):
    """A ``Report`` of the engine, or a ``Result`` of a notebook."""

    @property
    def exercise_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def max_points(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the journal; ``time`` is in UTC, such as ``2026-01-31T17:05:00+00:00``."""

    exercise_id: str
    status: str
    points: int
    max_points: int
    time: str


def read(folder: Path) -> dict[str, Entry]:
    """The last entry of each exercise, by its id; damaged lines are passed over.

    Raises:
        OSError: there is a journal that cannot be read.
    """
    entries: dict[str, Entry] = {}
    try:
        text = (folder / JOURNAL).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return entries
    for line in text.split("\n"):
        entry = _entry(line)
        if entry is not None:
            entries[entry.exercise_id] = entry
    return entries


def _entry(line: str) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (TypeError, ValueError, RecursionError):
        return None
    kinds = {"exercise_id": str, "status": str, "points": int, "max_points": int, "time": str}
    well_formed = all(type(getattr(entry, name)) is kind for name, kind in kinds.items())
    return entry if well_formed and entry.status in STATES else None


def record(outcomes: Iterable[Outcome], folder: Path) -> None:
    """Add what changed to the journal of a folder.

    An exercise that a notebook lacks changes nothing, and neither does one that is as it was.

    Raises:
        OSError: the journal cannot be written.
    """
    known = read(folder)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = []
    for outcome in outcomes:
        old = known.get(outcome.exercise_id)
        unchanged = outcome.status == (old.status if old else "not started")
        if outcome.status not in STATES or unchanged:
            continue
        entry = Entry(outcome.exercise_id, outcome.status, outcome.points, outcome.max_points, now)
        known[entry.exercise_id] = entry
        lines.append(json.dumps(dataclasses.asdict(entry)) + "\n")
    if not lines:
        return
    with (folder / JOURNAL).open("ab+") as file:
        # One write: another process may be adding at the same time, or may have died in a line.
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        separator = "" if file.read(1) in (b"", b"\n") else "\n"
        file.write((separator + "".join(lines)).encode())


def record_in_notebook(outcome: Outcome) -> None:
    """Record what ``check(...)`` said in the folder that a Jupyter kernel works in.

    Does nothing anywhere else, and never raises: a check must not fail for its journal.
    """
    with contextlib.suppress(Exception):
        from course_pkg.checks.engine import in_jupyter

        if in_jupyter() and os.environ.get("COURSE_PROGRESS") != "0":
            record([outcome], Path.cwd())
