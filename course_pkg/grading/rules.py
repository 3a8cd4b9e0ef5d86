"""A course's own rules: when chapters are due, what being late costs, what is extra credit.

A file such as::

    [due]
    all = 2026-07-01T23:59:00+02:00      # every chapter without a line of its own
    3 = 2026-03-01T23:59:00+01:00

    [late]
    grace_minutes = 15                   # so late still counts as in time
    percent_per_day = 10                 # or percent_per_hour; each one begun, from the due time
    at_most_percent = 50
    none_after_days = 7                  # later than that earns nothing

    [extension.anna]                     # one student: a chapter, or all
    3 = 2026-03-08T23:59:00+01:00

    [extra]
    exercises = ["06.first_update"]      # counts in the points, not in the maximum

Every part may be left out. Nothing here uses binary fractions: percents and points are
``Fraction`` until ``rounded`` makes them a ``Decimal``.
"""

import dataclasses
import datetime
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from course_pkg.errors import unknown_name

ALL = 0  # the key of a date that holds for every chapter

_SECTIONS = ("due", "late", "extension", "extra")
_LATE_KEYS = (
    "grace_minutes",
    "percent_per_day",
    "percent_per_hour",
    "at_most_percent",
    "none_after_days",
)
_MINUTE = datetime.timedelta(minutes=1)
_HOUR = datetime.timedelta(hours=1)
_DAY = datetime.timedelta(days=1)
_EXERCISE_ID = re.compile(r"[0-9]{2}\.[a-z0-9_]+")

Dates = Mapping[int, datetime.datetime]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a course lays down; every date has a time zone.

    Attributes:
        due: the due date of each chapter; ``ALL`` for the others.
        extensions: for a student's id, due dates of that student.
        grace: lateness up to this is none.
        percent: of a chapter's points that each ``period`` begun takes off.
        period: a day or an hour.
        at_most: the most that being late takes off, in percent.
        none_after: later than this earns nothing, whatever ``at_most`` says.
        extra: ids of the exercises that do not count in the maximum.
    """

    due: Dates = dataclasses.field(default_factory=dict)
    extensions: Mapping[str, Dates] = dataclasses.field(default_factory=dict)
    grace: datetime.timedelta = datetime.timedelta(0)
    percent: Fraction = Fraction(0)
    period: datetime.timedelta = _DAY
    at_most: Fraction = Fraction(100)
    none_after: datetime.timedelta | None = None
    extra: frozenset[str] = frozenset()

    def due_date(self, student: str, chapter: int) -> datetime.datetime | None:
        """When ``chapter`` is due for a student; ``None`` where nothing is laid down.

        An extension for the chapter is what counts. One for all chapters never makes a date
        earlier.
        """
        own = self.extensions.get(student, {})
        if chapter in own:
            return own[chapter]
        dates = [self.due.get(chapter, self.due.get(ALL)), own.get(ALL)]
        return max((date for date in dates if date is not None), default=None)

    def oddities(self, students: Iterable[str]) -> list[str]:
        """A line for each extension whose student is not among ``students``: perhaps a slip."""
        known = set(students)
        return [
            f"The rules extend a date for {student!r}, but nothing came from a student of that id."
            for student in sorted(self.extensions)
            if student not in known
        ]


@dataclasses.dataclass(frozen=True)
class Late:
    """What being late costs: ``percent`` (0 to 100) of a chapter's points; ``line`` says why."""

    percent: Fraction = Fraction(0)
    line: str | None = None


def rounded(value: Fraction | Decimal | int) -> Decimal:
    """``value`` to 0.01, half up: the only place where points are rounded."""
    hundredths = math.floor(Fraction(value) * 100 + Fraction(1, 2))
    return Decimal(hundredths).scaleb(-2)


def apply(rules: Rules, student: str, chapter: int, submitted: str | None) -> Late:
    """What the time at which a chapter was handed in costs.

    Lateness is counted from the due time, in days or hours begun. ``submitted`` is ISO 8601; one
    without a time zone is read in the due date's. An unknown time is not late, and is said.
    """
    due = rules.due_date(student, chapter)
    if due is None:
        return Late()
    when = _time(submitted, due)
    if when is None:
        return Late(line=f"When chapter {chapter} was handed in is unknown: not counted as late.")
    late = when - due
    if late <= datetime.timedelta(0):
        return Late()
    said = f"Chapter {chapter} came {_duration(late)} after it was due ({due:%Y-%m-%d %H:%M %z})"
    if late <= rules.grace:
        return Late(line=f"{said}, within the grace time.")
    if rules.none_after is not None and late > rules.none_after:
        return Late(Fraction(100), f"{said}, too late to earn points.")
    begun = -((-late) // rules.period)
    percent = min(rules.percent * begun, rules.at_most)
    return Late(percent, f"{said}: {_plain(percent)} % off.")


def load(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        ValueError: it is not TOML, has a key that is unknown, a date without a time zone, or a
            number that is out of range.
        OSError: the file cannot be read.
    """
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not TOML: {error}") from None
    _only(data, _SECTIONS, path.name)
    tables = {name: _table(data.get(name, {}), f"{path.name}: [{name}]") for name in _SECTIONS}
    late, where = tables["late"], f"{path.name}: [late]"
    _only(late, _LATE_KEYS, where)
    if "percent_per_day" in late and "percent_per_hour" in late:
        raise ValueError(f"{where} has percent_per_day and percent_per_hour: give one of them.")
    hourly = "percent_per_hour" in late
    rate = "percent_per_hour" if hourly else "percent_per_day"
    if late and rate not in late and "none_after_days" not in late:
        raise ValueError(
            f"{where} takes nothing off: give percent_per_day, percent_per_hour or none_after_days."
        )
    _only(tables["extra"], ("exercises",), f"{path.name}: [extra]")
    none_after = late.get("none_after_days")
    return Rules(
        due=_dates(tables["due"], f"{path.name}: [due]"),
        extensions={
            student: _dates(
                _table(dates, f"{path.name}: [extension.{student}]"),
                f"{path.name}: [extension.{student}]",
            )
            for student, dates in tables["extension"].items()
        },
        grace=_span(late.get("grace_minutes", 0), _MINUTE, f"{where} grace_minutes"),
        percent=_number(late.get(rate, 0), 100, f"{where} {rate}"),
        period=_HOUR if hourly else _DAY,
        at_most=_number(late.get("at_most_percent", 100), 100, f"{where} at_most_percent"),
        none_after=(
            None if none_after is None else _span(none_after, _DAY, f"{where} none_after_days")
        ),
        extra=_exercises(tables["extra"].get("exercises", []), f"{path.name}: [extra] exercises"),
    )


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}: it must be a table.")
    return value


def _only(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    allowed = tuple(allowed)
    for key in table:
        if key not in allowed:
            raise unknown_name(f"{where} key", key, allowed)


def _dates(table: Mapping[str, Any], where: str) -> Dates:
    dates: dict[int, datetime.datetime] = {}
    for key, value in table.items():
        if key == "all":
            chapter = ALL
        elif re.fullmatch(r"0*[1-9][0-9]?", key, re.ASCII):
            chapter = int(key)
        else:
            raise unknown_name(f"{where} key", key, ["all", "1, 2, 3 ... (a chapter's number)"])
        if chapter in dates:
            raise ValueError(f"{where} names chapter {chapter} twice.")
        if not isinstance(value, datetime.datetime) or value.tzinfo is None:
            raise ValueError(
                f"{where} {key} = {value} must be a date, a time and a time zone, such as "
                "2026-03-01T23:59:00+01:00."
            )
        dates[chapter] = value
    return dates


def _number(value: Any, most: int, where: str) -> Fraction:
    good = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not good or not Decimal(value).is_finite() or not 0 <= value <= most:
        raise ValueError(f"{where} = {value!s} must be a number from 0 to {most}.")
    return Fraction(value)


def _span(value: Any, unit: datetime.timedelta, where: str) -> datetime.timedelta:
    microseconds = _number(value, 1_000_000, where) * (unit // datetime.timedelta(microseconds=1))
    return datetime.timedelta(microseconds=int(microseconds))


def _exercises(value: Any, where: str) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError(f"{where} = {value!r} must be a list of exercises' ids.")
    for entry in value:
        if not isinstance(entry, str) or not _EXERCISE_ID.fullmatch(entry):
            raise ValueError(f"{where} has {entry!r}: an id looks like '06.first_update'.")
    return frozenset(value)


def _time(submitted: str | None, due: datetime.datetime) -> datetime.datetime | None:
    try:
        when = datetime.datetime.fromisoformat(submitted or "")
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=due.tzinfo)


def _duration(late: datetime.timedelta) -> str:
    """In the two largest units that are not zero; less than a minute is told in seconds."""
    hours, rest = divmod(late.seconds, 3600)
    units = [(late.days, "day"), (hours, "hour"), (rest // 60, "minute")]
    told = [f"{count} {name}{'s' * (count != 1)}" for count, name in units if count][:2]
    return " ".join(told) or f"{max(late.seconds, 1)} seconds"


def _plain(percent: Fraction) -> str:
    return format(rounded(percent).normalize(), "f")
