"""A grading run as files: grades, a sheet for manual marks, a page per student, a summary.

Names, messages and file names come from students. Everything that is shown passes ``visible``,
which takes the power from control characters; HTML is escaped by the templates, cells of a
spreadsheet by ``sheet``.
"""

import collections
import csv
import dataclasses
import datetime
import hashlib
import io
import json
import re
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from course_pkg.files import atomic_write
from course_pkg.grading import rules as late_rules
from course_pkg.grading.results import (
    ExerciseInfo,
    ExerciseResult,
    FileResult,
    Run,
    Status,
    StudentResult,
)
from course_pkg.grading.rules import Rules, rounded

STATUSES: tuple[Status, ...] = get_args(Status)
NAME_LIMIT = 120  # characters of a name that are shown
TEXT_LIMIT = 4000  # characters of a message or of what was printed
MANUAL_COLUMNS = ("student", "name", "exercise", "points", "maximum", "mark", "comment")
_NEEDED_COLUMNS = ("student", "exercise", "mark")
_INDEX = "feedback-files.json"  # which pages are ours, so that no other file is ever removed

# What a spreadsheet may take for the start of a formula: also after blanks and after characters
# that it drops. Leading apostrophes are counted in, so that `unguard` undoes `guard` exactly.
_DROPPED = r"\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_FORMULA = re.compile(rf"(?!'*-\Z)'*[{_DROPPED}]*?[\t\r\n=+\-@\uff1d\uff0b\uff0d\uff20\u2212]")

_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")

# Control characters, and what is not seen but changes what is: directions of text, blanks without a
# width, tags. The two joiners stay: emoji and several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_STACKED = 4  # marks on one letter; more would be drawn over the neighbouring lines


# --- text -----------------------------------------------------------------------------------------


def visible(text: str, limit: int | None = None) -> str:
    """``text`` without power over a terminal, a page or the order of what is around it.

    Control characters, directions and hidden characters become their numbers (⟨U+202E⟩), a lone
    half of a pair U+FFFD; line ends become ``\\n`` and tabs stay. With ``limit``, what is longer
    is cut and how much was cut is said.
    """
    cut = 0
    if limit is not None and len(text) > limit:
        cut = len(text) - limit
        text = text[:limit]
    text = re.sub("\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n", text)
    text = _HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    if not text.isascii() and any(map(unicodedata.combining, text)):
        text = _unstacked(text)
    return f"{text} … ({cut} more characters)" if cut else text


def one_line(text: str, limit: int = NAME_LIMIT) -> str:
    """``visible``, with every run of blanks and line ends as one blank."""
    return " ".join(visible(text, limit).split())


def moment(text: str) -> str:
    """An ISO 8601 time to the minute; anything else on one line."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return one_line(text)
    zone = "" if when.tzinfo is None else f" {when:%z}".replace("+0000", "UTC")
    return f"{when:%Y-%m-%d %H:%M}{zone}"


def number(value: Decimal | int) -> str:
    """A number of points as people write it: ``3``, ``2.5``, never ``3.00`` or ``1E+1``."""
    return format(Decimal(value).normalize(), "f")


def _unstacked(text: str) -> str:
    kept, stacked = [], 0
    for character in text:
        stacked = stacked + 1 if unicodedata.combining(character) else 0
        if stacked <= _STACKED:
            kept.append(character)
    return "".join(kept)


def guard(text: str) -> str:
    """``text`` with an apostrophe in front where a spreadsheet could take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """What was given to ``guard``; a text that ``guard`` never returns stays as it is."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def sheet(rows: Iterable[Sequence[str | int | Decimal]], delimiter: str = ",") -> str:
    """Rows as CSV, every cell quoted, texts guarded against formulas, numbers left numbers."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for row in rows:
        writer.writerow([guard(c) if isinstance(c, str) else number(c) for c in row])
    return text.getvalue()


# --- marks ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a person gave: ``value`` replaces the checks' points, ``None`` leaves them."""

    value: Decimal | None
    comment: str = ""


Marks = Mapping[tuple[str, str], Mark]  # by student and exercise


@dataclasses.dataclass(frozen=True)
class _Row:
    line: int
    student: str
    exercise: str
    cells: Mapping[str, str]  # by column, as they stand in the file; unguarded
    mark: Mark


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """A sheet of manual marks as it was read; ``extra`` are columns that a person added."""

    delimiter: str = ","
    extra: tuple[str, ...] = ()
    rows: Mapping[tuple[str, str], _Row] = dataclasses.field(default_factory=dict)

    def marks(self) -> dict[tuple[str, str], Mark]:
        return {
            key: row.mark
            for key, row in self.rows.items()
            if row.mark.value is not None or row.mark.comment
        }


def read_marks(path: Path, run: Run) -> Marks:
    """The marks and comments in a ``manual.csv``; none where there is no such file.

    What spreadsheets do to a file is understood: a byte-order mark, UTF-16, Windows' own
    encoding, semicolons or tabs, a decimal comma, columns in another order, lost zeros at the
    front of an id.

    Raises:
        ValueError: a column is missing; a mark is no number or not between 0 and the maximum; two
            rows say different things about one exercise. Names the row and the column.
        OSError: the file is there and cannot be read.
    """
    return _read_sheet(path, run).marks()


def _read_sheet(path: Path, run: Run) -> _Sheet:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _Sheet()
    lines, delimiter = _table(_decoded(data), path.name)
    if not lines:
        return _Sheet()
    (_, header), *body = lines
    names = [cell.strip() for cell in header]
    columns = [name.lower() if name.lower() in MANUAL_COLUMNS else name for name in names]
    columns = [unguard(name) for name in columns]
    for name in {name for name in columns if name and columns.count(name) > 1}:
        raise ValueError(f"{path.name}: there are two columns named {name!r}.")
    maxima = {exercise.exercise_id: exercise.points for exercise in run.exercises}
    ids = _Ids(student.student for student in run.students)
    rows: dict[tuple[str, str], _Row] = {}
    for line, cells in body:
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in _without_heading(columns, cells)):
            raise ValueError(
                f"{path.name}, row {line}: a cell has no heading above it: give its column one."
            )
        texts = dict(zip(columns, map(unguard, cells), strict=False))
        row = _row(line, texts, ids, maxima, path.name)
        key = (row.student, row.exercise)
        rows[key] = _joined(rows[key], row, path.name) if key in rows else row
    extra = tuple(name for name in columns if name and name not in MANUAL_COLUMNS)
    return _Sheet(delimiter, extra, rows)


def _without_heading(columns: Sequence[str], cells: Sequence[str]) -> Iterable[str]:
    named = [bool(name) for name in columns]
    return (c for place, c in enumerate(cells) if place >= len(named) or not named[place])


class _Ids:
    """The run's ids, and the one that is meant where a spreadsheet took an id for a number."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = set(ids)
        self._by_number = collections.defaultdict(list)
        for name in self._ids:
            if name.isascii() and name.isdigit():
                self._by_number[name.lstrip("0")].append(name)

    def meant(self, cell: str) -> str:
        cell = cell.strip()
        if cell not in self._ids and cell.isascii() and cell.isdigit():
            alike = self._by_number[cell.lstrip("0")]
            if len(alike) == 1:
                return alike[0]
        return cell


def _row(
    line: int, texts: Mapping[str, str], ids: _Ids, maxima: Mapping[str, int], file: str
) -> _Row:
    exercise = texts.get("exercise", "").strip()
    text = texts.get("mark", "").strip()
    where = f"{file}, row {line}, column 'mark'"
    value = None
    if text:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{where}: {text[:40]!r} is not a number such as 1.5.")
        value = Decimal(text.replace(",", "."))
        known = maxima.get(exercise)
        most = _maximum(texts.get("maximum", "")) if known is None else Decimal(known)
        if value < 0 or (most is not None and value > most):
            allowed = "0 or more" if most is None else f"from 0 to {number(most)}"
            raise ValueError(f"{where}: {text[:40]} is not allowed: it must be {allowed}.")
    mark = Mark(value, texts.get("comment", ""))
    return _Row(line, ids.meant(texts.get("student", "")), exercise, texts, mark)


def _maximum(text: str) -> Decimal | None:
    """The maximum as the row itself has it: of an exercise that is not in the run."""
    text = text.strip()
    return Decimal(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def _joined(first: _Row, second: _Row, file: str) -> _Row:
    """Two rows about the same: cells that only one fills are taken from it."""
    cells = dict(first.cells)
    for column, cell in second.cells.items():
        if column in ("student", "name", "exercise", "points", "maximum") or not cell.strip():
            continue
        if cells.get(column, "").strip() and cells[column] != cell:
            raise ValueError(
                f"{file}, rows {first.line} and {second.line}, column {column!r}: they are about "
                f"the same exercise of {first.student!r} and say different things."
            )
        cells[column] = cell
    value = first.mark.value if first.mark.value is not None else second.mark.value
    return dataclasses.replace(first, cells=cells, mark=Mark(value, cells.get("comment", "")))


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What Excel saves as "CSV" on Windows; the few bytes that mean nothing there stay.
        return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in data)


def _table(text: str, file: str) -> tuple[list[tuple[int, list[str]]], str]:
    """The non-empty rows with their numbers (1 is the first line's), and the delimiter."""
    start = re.match(r"sep=.\r?\n", text)
    body = text[start.end() :] if start else text
    for delimiter in (",", ";", "\t"):
        try:
            rows = list(csv.reader(io.StringIO(body, newline=""), delimiter=delimiter))
        except csv.Error as error:
            raise ValueError(f"{file} is not a table: {error}.") from None
        numbered = [(line, row) for line, row in enumerate(rows, start=2 if start else 1) if row]
        if not numbered:
            return [], delimiter
        found = {cell.strip().lower() for cell in numbered[0][1]}
        if found.issuperset(_NEEDED_COLUMNS):
            return numbered, delimiter
    raise ValueError(
        f"{file} has no row of headings with the columns {', '.join(_NEEDED_COLUMNS)}: put it "
        "first, or move the file away to begin a new one."
    )


def _manual(run: Run, old: _Sheet) -> str:
    """The sheet to fill: every exercise to look at, and every row that a person wrote in."""
    rows: list[list[str | int | Decimal]] = [[*MANUAL_COLUMNS, *old.extra]]
    exercises = {exercise.exercise_id: exercise for exercise in run.exercises}
    students = {student.student: student for student in run.students}
    wanted = [
        (student.student, exercise.exercise_id)
        for student in run.students
        for exercise in run.exercises
        if exercise.kind == "explore"
    ]
    kept = [
        key
        for key, row in old.rows.items()
        if any(row.cells.get(name, "").strip() for name in ("mark", "comment", *old.extra))
    ]
    for key in dict.fromkeys([*wanted, *kept]):
        student, exercise = students.get(key[0]), exercises.get(key[1])
        cells = old.rows[key].cells if key in old.rows else {}
        name: str = cells.get("name", "")
        points: str | int = cells.get("points", "")
        maximum: str | int = cells.get("maximum", "")
        if student is not None and exercise is not None:
            name = one_line(student.name)
            points, maximum = _result(student, exercise).points, exercise.points
        written = [cells.get(column, "") for column in ("mark", "comment", *old.extra)]
        rows.append([key[0], name, key[1], points, maximum, *written])
    return sheet(rows, old.delimiter)


# --- totals ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ChapterTotal:
    """One chapter of one student, in points; ``line`` says what its time of arrival meant."""

    chapter: int
    points: Decimal
    penalty: Decimal
    maximum: Decimal
    line: str | None = None

    @property
    def total(self) -> Decimal:
        return self.points - self.penalty


@dataclasses.dataclass(frozen=True)
class Totals:
    """One student, all chapters: ``total`` is ``points`` less ``penalty``. To 0.01, exact sums."""

    chapters: tuple[ChapterTotal, ...]

    @property
    def points(self) -> Decimal:
        return sum((chapter.points for chapter in self.chapters), Decimal(0))

    @property
    def penalty(self) -> Decimal:
        return sum((chapter.penalty for chapter in self.chapters), Decimal(0))

    @property
    def total(self) -> Decimal:
        return self.points - self.penalty

    @property
    def maximum(self) -> Decimal:
        return sum((chapter.maximum for chapter in self.chapters), Decimal(0))

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(chapter.line for chapter in self.chapters if chapter.line)

    @property
    def percent(self) -> Decimal:
        """Of the maximum; 0 where nothing can be earned, above 100 through extra credit."""
        return rounded(Fraction(self.total) * 100 / Fraction(self.maximum) if self.maximum else 0)


def earned(student: StudentResult, exercise: ExerciseInfo, marks: Marks) -> Decimal:
    """Points for one exercise: the manual mark where there is one, else what the checks give."""
    mark = marks.get((student.student, exercise.exercise_id))
    if mark is not None and mark.value is not None:
        return rounded(mark.value)
    return Decimal(_result(student, exercise).points)


def totals(
    student: StudentResult, run: Run, rules: Rules | None = None, marks: Marks | None = None
) -> Totals:
    """What a student has, by chapter. Every report and export takes its numbers from here."""
    rules = rules or Rules()
    files = {file.chapter: file for file in student.files}
    chapters = []
    for chapter in sorted({exercise.chapter for exercise in run.exercises}):
        exercises = [exercise for exercise in run.exercises if exercise.chapter == chapter]
        points = sum((earned(student, e, marks or {}) for e in exercises), Decimal(0))
        maximum = sum(e.points for e in exercises if e.exercise_id not in rules.extra)
        late = late_rules.Late()
        if chapter in files:
            late = late_rules.apply(rules, student.student, chapter, files[chapter].submitted)
        penalty = rounded(Fraction(points) * late.percent / 100)
        chapters.append(ChapterTotal(chapter, points, penalty, Decimal(maximum), late.line))
    return Totals(tuple(chapters))


def _result(student: StudentResult, exercise: ExerciseInfo) -> ExerciseResult:
    """The result of an exercise; of one that the run has and the student lacks: missing."""
    found = student.exercises.get(exercise.exercise_id)
    return found or ExerciseResult(exercise.exercise_id, "missing", 0, exercise.points)


# --- writing --------------------------------------------------------------------------------------


def write(run: Run, out: Path, *, rules: Rules | None = None) -> list[str]:
    """Write every report of ``run`` into the folder ``out``.

    ``grades.csv``, ``grades.json``, ``manual.csv`` (read first: marks in it count, and no filled
    cell of it is ever lost), ``feedback/<student>.html`` and ``summary.html``. Each file is
    whole at every moment. Pages of students who are gone are removed if this function made them.

    Returns lines that the instructor should read, such as a page that was left where it is.

    Raises:
        ValueError: a mark in ``manual.csv`` cannot be used (see ``read_marks``), or a student's id
            is no file's name. Nothing was written then.
        OSError: the folder cannot be written, or the disk is full.
    """
    rules = rules or Rules()
    for student in run.students:
        check_id(student.student)
    old = _read_sheet(out / "manual.csv", run)
    marks = old.marks()
    sums = {student.student: totals(student, run, rules, marks) for student in run.students}
    notes = rules.oddities(sums)
    pages = {f"{s.student}.html": feedback(s, run, rules=rules, marks=marks) for s in run.students}
    _write_text(out / "grades.json", _grades_json(run, marks, sums))
    _write_text(out / "grades.csv", "\ufeff" + _grades_csv(run, marks, sums))
    _write_text(out / "manual.csv", "\ufeff" + _manual(run, old))
    notes += _write_pages(out, pages)
    _write_text(out / "summary.html", _summary(run, marks, sums, notes))
    return notes


def check_id(student: str) -> None:
    """Raises ValueError: a student's id is not what a single file or folder can be called."""
    good = student and student == visible(student) and not re.search(r"[/\\:\x00\n\t]", student)
    if not good or student.startswith("."):
        raise ValueError(
            f"student={student[:80]!r} is not allowed: an id is a file's name without a folder."
        )


def _write_text(path: Path, text: str) -> None:
    data = text.encode("utf-8")
    # A spreadsheet that has the file open locks it on Windows; there is nothing to change then.
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    with atomic_write(path, "wb") as file:
        file.write(data)


def _write_pages(out: Path, pages: Mapping[str, str]) -> list[str]:
    index = out / _INDEX
    ours = _read_index(index)
    new = {name: _digest(page.encode("utf-8")) for name, page in pages.items()}
    # Before the pages: a run that is killed here must not forget which pages it made.
    _write_text(index, _index_json({**ours, **new}))
    for name, page in pages.items():
        _write_text(out / "feedback" / name, page)
    notes, left = [], {}
    for name in sorted(ours.keys() - new.keys()):
        path = out / "feedback" / name
        if path.is_symlink() or not path.is_file():
            continue
        if _digest(path.read_bytes()) == ours[name]:
            path.unlink()
        else:
            left[name] = ours[name]
            notes.append(
                f"feedback/{name} is of a student who is gone; it was changed by hand, so it stays."
            )
    _write_text(index, _index_json({**left, **new}))
    return notes


def _read_index(path: Path) -> dict[str, str]:
    """The digest of each page that an earlier run made. An index that is damaged names none."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))["made"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(made, dict):
        return {}
    return {
        name: digest
        for name, digest in made.items()
        if name.endswith(".html") and not re.search(r"[/\\]", name) and isinstance(digest, str)
    }


def _index_json(made: Mapping[str, str]) -> str:
    about = "The pages in feedback/ that were made here; only these are ever removed."
    return json.dumps({"about": about, "made": dict(sorted(made.items()))}, indent=1) + "\n"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _grades_json(run: Run, marks: Marks, sums: Mapping[str, Totals]) -> str:
    data = run.to_dict()
    data["marks"] = [
        {
            "student": student,
            "exercise": exercise,
            "mark": None if mark.value is None else float(rounded(mark.value)),
            "comment": mark.comment,
        }
        for (student, exercise), mark in sorted(marks.items())
    ]
    data["totals"] = {student: _totals_dict(own) for student, own in sums.items()}
    # ASCII: the file can be printed on a terminal whatever students wrote.
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _totals_dict(own: Totals) -> dict[str, Any]:
    return {
        "points": float(own.points),
        "penalty": float(own.penalty),
        "total": float(own.total),
        "maximum": float(own.maximum),
        "chapters": [
            {
                "chapter": chapter.chapter,
                "points": float(chapter.points),
                "penalty": float(chapter.penalty),
                "total": float(chapter.total),
                "maximum": float(chapter.maximum),
                "line": chapter.line,
            }
            for chapter in own.chapters
        ],
    }


def _grades_csv(run: Run, marks: Marks, sums: Mapping[str, Totals]) -> str:
    rows: list[list[str | int | Decimal]] = [
        [
            "student",
            "name",
            *[exercise.exercise_id for exercise in run.exercises],
            "points",
            "late penalty",
            "total",
            "maximum",
            "attempts",
            "oddities",
            "sandbox",
        ]
    ]
    for student in run.students:
        own = sums[student.student]
        rows.append(
            [
                student.student,
                one_line(student.name),
                *[earned(student, exercise, marks) for exercise in run.exercises],
                own.points,
                own.penalty,
                own.total,
                own.maximum,
                sum(file.attempts for file in student.files),
                len(_oddities(student)),
                "UNSANDBOXED" if _unsandboxed(student) else run.sandbox,
            ]
        )
    return sheet(rows)


def _oddities(student: StudentResult) -> list[str]:
    lines = [line for file in student.files for line in file.oddities]
    for exercise_id, result in student.exercises.items():
        lines += [f"{exercise_id}: {line}" for line in result.oddities]
    return lines


def _unsandboxed(student: StudentResult) -> bool:
    return any(result.unsandboxed for result in student.exercises.values())


# --- pages ----------------------------------------------------------------------------------------

_SYMBOLS: dict[Status, str] = {
    "passed": "✓",
    "failed": "✗",
    "not started": "○",
    "missing": "–",
    "refused": "!",
}


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_shown,  # of every value in every template, so none can be forgotten
)
_ENVIRONMENT.filters["number"] = number
_ENVIRONMENT.filters["one_line"] = one_line
_ENVIRONMENT.filters["moment"] = moment
_ENVIRONMENT.filters["text"] = lambda text: visible(text, TEXT_LIMIT)
_ENVIRONMENT.filters["symbol"] = lambda status: _SYMBOLS[status]
_ENVIRONMENT.filters["slug"] = lambda text: re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def feedback(
    student: StudentResult, run: Run, *, rules: Rules | None = None, marks: Marks | None = None
) -> str:
    """The page for one student: HTML that loads nothing, runs nothing and needs no other file."""
    rules, marks = rules or Rules(), marks or {}
    own = totals(student, run, rules, marks)
    files = {file.chapter: file for file in student.files}
    chapters = [
        {
            "number": chapter.chapter,
            "sum": chapter,
            "file": files.get(chapter.chapter),
            "exercises": [
                _exercise(student, exercise, rules, marks)
                for exercise in run.exercises
                if exercise.chapter == chapter.chapter
            ],
        }
        for chapter in own.chapters
    ]
    return _ENVIRONMENT.get_template("feedback.html").render(
        student=student,
        own=own,
        chapters=chapters,
        other_files=[
            f for f in student.files if f.chapter not in {c.chapter for c in own.chapters}
        ],
        unsandboxed=_unsandboxed(student),
    )


def _exercise(
    student: StudentResult, exercise: ExerciseInfo, rules: Rules, marks: Marks
) -> dict[str, Any]:
    mark = marks.get((student.student, exercise.exercise_id))
    return {
        "info": exercise,
        "result": _result(student, exercise),
        "points": earned(student, exercise, marks),
        "mark": mark if mark and mark.value is not None else None,
        "comment": mark.comment if mark else "",
        "extra": exercise.exercise_id in rules.extra,
    }


def _summary(run: Run, marks: Marks, sums: Mapping[str, Totals], notes: Sequence[str]) -> str:
    percents = [sums[student.student].percent for student in run.students]
    oddities = [(student, _oddities(student)) for student in run.students]
    return _ENVIRONMENT.get_template("summary.html").render(
        run=run,
        notes=notes,
        histogram=_histogram(percents),
        median=statistics.median(percents) if percents else None,
        shares=_shares(run),
        misconceptions=_misconceptions(run),
        oddities=[(student, lines) for student, lines in oddities if lines],
        students=[
            {
                "student": student,
                "own": sums[student.student],
                "href": f"feedback/{quote(student.student)}.html",
                "passed": sum(r.status == "passed" for r in student.exercises.values()),
                "oddities": len(_oddities(student)),
                "open": _unmarked(student, run, marks),
                "unsandboxed": _unsandboxed(student),
            }
            for student in run.students
        ],
        unsandboxed=any(map(_unsandboxed, run.students)),
        statuses=STATUSES,
    )


def _unmarked(student: StudentResult, run: Run, marks: Marks) -> int:
    """How many exercises wait for a person: handed in, to be looked at, and without a mark."""
    count = 0
    for exercise in run.exercises:
        mark = marks.get((student.student, exercise.exercise_id))
        handed_in = _result(student, exercise).status in ("passed", "failed")
        if exercise.kind == "explore" and handed_in and (mark is None or mark.value is None):
            count += 1
    return count


def _histogram(percents: Sequence[Decimal]) -> list[dict[str, Any]]:
    """Ten bins of 10 % each; the last one has everything from 90 % up."""
    counts = [0] * 10
    for percent in percents:
        counts[min(9, max(0, int(percent // 10)))] += 1
    most = max([*counts, 1])
    return [
        {"low": 10 * index, "count": count, "share": Decimal(count) / most}
        for index, count in enumerate(counts)
    ]


def _shares(run: Run) -> list[dict[str, Any]]:
    """How each exercise went, the hardest first; the course's order where two are alike."""
    rows = []
    for exercise in run.exercises:
        counts = collections.Counter(_result(s, exercise).status for s in run.students)
        rows.append({"info": exercise, "counts": {status: counts[status] for status in STATUSES}})
    return sorted(rows, key=lambda row: cast(dict[str, int], row["counts"])["passed"])


def _misconceptions(run: Run) -> list[dict[str, Any]]:
    """How many students have which misconception, the likeliest of each answer only."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    sentences: dict[tuple[str, str], str] = {}
    for student in run.students:
        for exercise in run.exercises:
            result = _result(student, exercise)
            if result.misconceptions:
                key = (exercise.exercise_id, result.misconceptions[0])
                found[key] += 1
                sentences.setdefault(key, result.diagnoses[0] if result.diagnoses else "")
    order = {exercise.exercise_id: place for place, exercise in enumerate(run.exercises)}
    ranked = sorted(found, key=lambda key: (-found[key], order[key[0]], key[1]))
    most = max([*found.values(), 1])
    return [
        {
            "info": run.exercises[order[key[0]]],
            "name": key[1],
            "count": found[key],
            "share": Decimal(found[key]) / most,
            "sentence": sentences[key],
        }
        for key in ranked
    ]


# --- what changed ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Change:
    """One student between two runs; a total is ``None`` where the student was not in that run."""

    student: str
    name: str
    old_total: Decimal | None
    new_total: Decimal | None
    reasons: tuple[str, ...]


def diff(old: Mapping[str, Any] | Path, new: Mapping[str, Any] | Path) -> list[Change]:
    """Whose grade changed, and why; also who has the same total for other reasons.

    Each side is what ``grades.json`` holds, that file, or the folder it lies in.

    Raises:
        ValueError: one of them is no ``grades.json``.
        OSError: a file cannot be read.
    """
    before, after = _side(old, "old"), _side(new, "new")
    changes = []
    for student in sorted(before.students.keys() | after.students.keys()):
        first, second = before.students.get(student), after.students.get(student)
        if first is None or second is None:
            there, reason = (
                (second, "new in this run") if first is None else (first, "no longer in the run")
            )
            reasons = [reason]
        else:
            there, reasons = second, _reasons(first, second, before, after)
        old_total, new_total = before.total(student), after.total(student)
        if reasons or old_total != new_total:
            name = cast(StudentResult, there).name
            changes.append(Change(student, name, old_total, new_total, tuple(reasons)))
    return changes


def diff_text(changes: Sequence[Change]) -> str:
    """``diff`` in words, a paragraph for each student; safe to print on a terminal."""
    if not changes:
        return "No grade changed."
    lines = []
    for change in changes:
        name = one_line(change.name)
        who = change.student if name == change.student else f"{change.student} ({name})"
        lines.append(f"{one_line(who, 2 * NAME_LIMIT)}: {_movement(change)}")
        lines += [f"  {one_line(reason, 500)}" for reason in change.reasons]
    return "\n".join(lines)


def _movement(change: Change) -> str:
    if change.old_total is None or change.new_total is None:
        return " ".join(
            f"{when} {number(total)}"
            for when, total in (("was", change.old_total), ("now", change.new_total))
            if total is not None
        )
    if change.old_total == change.new_total:
        return f"{number(change.new_total)}, as before"
    step = change.new_total - change.old_total
    sign = "+" if step > 0 else "-"
    return f"{number(change.old_total)} -> {number(change.new_total)} ({sign}{number(abs(step))})"


@dataclasses.dataclass(frozen=True)
class _Side:
    run: Run
    students: Mapping[str, StudentResult]
    totals: Mapping[str, Any]
    marks: Mapping[tuple[str, str], tuple[float | int | None, str]]

    def total(self, student: str) -> Decimal | None:
        own = self.totals.get(student)
        return None if own is None else rounded(Decimal(str(own["total"])))


def _side(given: Mapping[str, Any] | Path, argument: str) -> _Side:
    name = f"{argument}={given}" if isinstance(given, Path) else argument
    try:
        if isinstance(given, Path):
            file = given / "grades.json" if given.is_dir() else given
            given = json.loads(file.read_text(encoding="utf-8"))
        data = cast(Mapping[str, Any], given)
        run = Run.from_dict(data)
        sums = data.get("totals")
        if sums is None:
            sums = {s.student: _totals_dict(totals(s, run)) for s in run.students}
        marks = {
            (mark["student"], mark["exercise"]): (mark["mark"], mark["comment"])
            for mark in data.get("marks", [])
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} is not a grades.json of this course: {error}") from None
    return _Side(run, {student.student: student for student in run.students}, sums, marks)


def _reasons(old: StudentResult, new: StudentResult, before: _Side, after: _Side) -> list[str]:
    reasons = _file_reasons(old, new)
    for exercise_id in dict.fromkeys([*old.exercises, *new.exercises]):
        first, second = old.exercises.get(exercise_id), new.exercises.get(exercise_id)
        if first is None or second is None:
            reasons.append(f"{exercise_id}: {'graded now' if first is None else 'not graded now'}")
        else:
            reasons += [f"{exercise_id}: {line}" for line in _exercise_reasons(first, second)]
        key = (new.student, exercise_id)
        reasons += [
            f"{exercise_id}: {line}"
            for line in _mark_reasons(before.marks.get(key), after.marks.get(key))
        ]
    penalties = [
        {chapter["chapter"]: chapter for chapter in side.totals[new.student]["chapters"]}
        for side in (before, after)
    ]
    for chapter in sorted(penalties[0].keys() & penalties[1].keys()):
        first_sum, second_sum = penalties[0][chapter], penalties[1][chapter]
        if first_sum["penalty"] != second_sum["penalty"]:
            told = f": {second_sum['line']}" if second_sum["line"] else ""
            reasons.append(
                f"chapter {chapter}: late penalty {_said(first_sum['penalty'])} -> "
                f"{_said(second_sum['penalty'])}{told}"
            )
        if first_sum["maximum"] != second_sum["maximum"]:
            reasons.append(
                f"chapter {chapter}: maximum {_said(first_sum['maximum'])} -> "
                f"{_said(second_sum['maximum'])}"
            )
    return reasons


def _file_reasons(old: StudentResult, new: StudentResult) -> list[str]:
    reasons = []
    first = {file.chapter: file for file in old.files}
    second = {file.chapter: file for file in new.files}
    for chapter in sorted(first.keys() | second.keys()):
        was, now = first.get(chapter), second.get(chapter)
        if was is None or now is None:
            there = cast(FileResult, was or now)
            reasons.append(
                f"chapter {chapter}: {there.file} {'came' if was is None else 'is gone'}"
            )
            continue
        for what, one, other in (
            ("file", was.file, now.file),
            ("attempt", f"{was.attempt} of {was.attempts}", f"{now.attempt} of {now.attempts}"),
            ("handed in", was.submitted or "unknown", now.submitted or "unknown"),
        ):
            if one != other:
                reasons.append(f"chapter {chapter}: {what} {one} -> {other}")
    return reasons


def _exercise_reasons(old: ExerciseResult, new: ExerciseResult) -> list[str]:
    reasons = []
    if old.status != new.status:
        reasons.append(f"{old.status} -> {new.status}")
    if (old.points, old.max_points) != (new.points, new.max_points):
        reasons.append(
            f"points {old.points} of {old.max_points} -> {new.points} of {new.max_points}"
        )
    first = {finding.name: finding.holds for finding in old.findings}
    second = {finding.name: finding.holds for finding in new.findings}
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            word = {True: "holds now", False: "fails now", None: "was not judged"}
            reasons.append(f"{name!r} {word[second.get(name)]}")
    if old.problem != new.problem:
        reasons.append(f"problem now: {new.problem}" if new.problem else "no problem any more")
    if old.unsandboxed != new.unsandboxed:
        reasons.append(f"ran {'without' if new.unsandboxed else 'in'} a sandbox")
    return reasons


def _mark_reasons(
    old: tuple[float | int | None, str] | None, new: tuple[float | int | None, str] | None
) -> list[str]:
    reasons = []
    first, second = old or (None, ""), new or (None, "")
    if first[0] != second[0]:
        reasons.append(f"manual mark {_said(first[0])} -> {_said(second[0])}")
    if first[1] != second[1]:
        reasons.append("another comment")
    return reasons


def _said(value: float | int | None) -> str:
    return "none" if value is None else number(rounded(Decimal(str(value))))
