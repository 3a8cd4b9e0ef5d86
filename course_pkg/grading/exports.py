"""Grades in the forms that others read: Canvas, Moodle, nbgrader; answers in the form of JPlag.

Every number is ``reports.totals``' own. The functions return lines that the instructor should
read: who could not be matched, what has to be ticked.
"""

import contextlib
import csv
import dataclasses
import datetime
import html
import io
import os
import re
import shutil
import sqlite3
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from course_pkg.files import atomic_write
from course_pkg.grading import reports
from course_pkg.grading.release import SCHEMA_VERSION, grade_id, graded_id
from course_pkg.grading.reports import (
    Marks,
    earned,
    guard,
    number,
    one_line,
    totals,
    visible,
)
from course_pkg.grading.results import ExerciseInfo, ExerciseResult, Run, StudentResult
from course_pkg.grading.rules import Rules

if TYPE_CHECKING:
    from course_pkg.grading.submissions import Submission

_PARTICIPANT = re.compile(r"_([0-9]+)_assignsubmission_")  # in the folders of Moodle's downloads
_CANVAS_STUDENT = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
_MOODLE_COLUMNS = (
    "Identifier",
    "Full name",
    "Email address",
    "Status",
    "Grade",
    "Maximum Grade",
    "Grade can be changed",
    "Last modified (submission)",
    "Last modified (grade)",
    "Feedback comments",
)
_MADE_FOR_JPLAG = "how-to-run-jplag.txt"


# --- Canvas ---------------------------------------------------------------------------------------


def canvas(
    run: Run,
    path: Path,
    *,
    roster: Path | None = None,
    rules: Rules | None = None,
    marks: Marks | None = None,
) -> list[str]:
    """Write a CSV that Canvas' gradebook imports: a column per chapter, late penalties taken off.

    ``roster`` is a gradebook exported from the same Canvas course. Students are then matched by
    SIS login, SIS user id, the part of the login before the @, Canvas id or full name, and
    columns by "Chapter 3" in their titles; only rows and columns of that gradebook are written.
    Without it Canvas has to recognise students by ``SIS Login ID``, which is the student's id.

    Checked against Canvas' own importer, ``lib/gradebook_importer.rb`` of canvas-lms: headings,
    "Points Possible" row, ``Title (id)``, no byte-order mark (Ruby's CSV stumbles over one before
    a quote) and no line ends within cells (it looks at the first three lines for the delimiter).

    Raises:
        ValueError: ``roster`` is not a Canvas gradebook, or has no column for any chapter.
        OSError: a file cannot be read or written.
    """
    notes: list[str] = []
    chapters = _chapters(run)
    titles = {chapter: f"Chapter {chapter}" for chapter in chapters}
    people: Mapping[str, Sequence[str]] = {
        student.student: [_flat(student.name), "", "", student.student, ""]
        for student in run.students
    }
    if roster is not None:
        table = _Roster.read(roster, _CANVAS_STUDENT[:2], "a gradebook exported from Canvas")
        titles = _canvas_titles(table, chapters)
        if not titles:
            raise ValueError(
                f"roster={roster.name} has no column for a chapter of this run: name the "
                f"assignments {', '.join(f'Chapter {chapter}' for chapter in chapters)}."
            )
        notes += [
            f"The roster has no column for chapter {chapter}: it is left out."
            for chapter in chapters
            if chapter not in titles
        ]
        notes += _unlike_points(table, titles, run, rules)
        found = _matched(run.students, table, _canvas_keys, notes)
        people = {
            student: [row.get(column, "") for column in _CANVAS_STUDENT]
            for student, row in found.items()
        }
    sums = {student.student: totals(student, run, rules, marks) for student in run.students}
    maxima = {chapter.chapter: chapter.maximum for chapter in _whole(run, rules)}
    rows: list[list[str | Decimal | int]] = [
        [*_CANVAS_STUDENT, *titles.values()],
        ["Points Possible", "", "", "", "", *[maxima[chapter] for chapter in titles]],
    ]
    for student in run.students:
        if student.student in people:
            own = {chapter.chapter: chapter.total for chapter in sums[student.student].chapters}
            facts = [_flat(cell, 1000) for cell in people[student.student]]
            rows.append([*facts, *[own[chapter] for chapter in titles]])
    with atomic_write(path, "wb") as file:
        file.write(reports.sheet(rows).encode("utf-8"))
    return notes


def _canvas_titles(table: "_Roster", chapters: Sequence[int]) -> dict[int, str]:
    """The heading of each chapter's column: an exact "Chapter 3" before one that contains it."""
    titles = {}
    for chapter in chapters:
        pattern = re.compile(rf"\bchapter\s+0?{chapter}\b", re.IGNORECASE)
        fitting = [
            (re.sub(r"\s*\([0-9]+\)$", "", column), column)
            for column in table.columns
            if column not in _CANVAS_STUDENT and pattern.search(column)
        ]
        whole = [column for title, column in fitting if pattern.fullmatch(title.strip())]
        candidates = whole or [column for _, column in fitting]
        if len(candidates) == 1:
            titles[chapter] = candidates[0]
    return titles


def _unlike_points(
    table: "_Roster", titles: Mapping[int, str], run: Run, rules: Rules | None
) -> Iterable[str]:
    possible = next((row for row in table.rows if _is_points_row(row)), {})
    for chapter in _whole(run, rules):
        if chapter.chapter not in titles:
            continue
        there = possible.get(titles[chapter.chapter], "").strip()
        try:
            same = not there or Decimal(there) == chapter.maximum
        except ArithmeticError:
            same = False
        if not same:
            yield (
                f"Canvas has {one_line(there)} points for chapter {chapter.chapter}, the course "
                f"{number(chapter.maximum)}: set them alike in Canvas."
            )


def _is_points_row(row: Mapping[str, str]) -> bool:
    return "Points Possible" in row.get("Student", "")


def _canvas_keys(row: Mapping[str, str]) -> list[list[str]]:
    """What may name a student, the surest first."""
    if _is_points_row(row):
        return []
    login, name = row.get("SIS Login ID", ""), row.get("Student", "")
    last, _, first = name.partition(",")
    return [
        [login, row.get("SIS User ID", "")],
        [login.partition("@")[0]],
        [row.get("ID", "")],
        [name, f"{first.strip()} {last.strip()}"],
    ]


# --- Moodle ---------------------------------------------------------------------------------------


def moodle(
    run: Run,
    path: Path,
    *,
    chapter: int | None = None,
    roster: Path | None = None,
    rules: Rules | None = None,
    marks: Marks | None = None,
) -> list[str]:
    """Write the offline grading worksheet of one Moodle assignment: one chapter, or all together.

    ``roster`` is the worksheet downloaded from that assignment; each of its rows that is matched
    (by participant, e-mail address, its part before the @, or full name) gets a grade, its other
    cells stay as Moodle wrote them, and no other row is written. Without it, students whose files
    come from Moodle's "Download all submissions" are named ``Participant N`` as Moodle names them
    there; a number is valid in its own assignment only, so it is taken from that chapter's file.

    Checked against Moodle's own importer, ``mod/assign/feedback/offline`` (``importgradeslib.php``
    and ``locallib.php``): it finds rows by ``Identifier`` alone, needs the columns ``Grade`` and
    ``Last modified (grade)``, and drops a grade above the assignment's maximum. The headings are
    those of an English site.

    Raises:
        ValueError: ``chapter`` is not in the run, or ``roster`` is not a grading worksheet.
        OSError: a file cannot be read or written.
    """
    chapters = _chapters(run)
    if chapter is not None and chapter not in chapters:
        raise ValueError(
            f"chapter={chapter} is not in this run: it has {', '.join(map(str, chapters))}."
        )
    notes: list[str] = []
    columns: Sequence[str] = _MOODLE_COLUMNS
    if roster is not None:
        table = _Roster.read(
            roster,
            ("Identifier", "Grade", "Last modified (grade)"),
            "a grading worksheet downloaded from Moodle with its headings in English",
        )
        columns = [*table.columns]
        columns += [c for c in ("Maximum Grade", "Feedback comments") if c not in columns]
        given = {_participant(s, chapter): s for s in run.students if _participant(s, chapter)}
        by_number = {
            given[row["Identifier"]].student: row
            for row in table.rows
            if row["Identifier"] in given
        }
        others = [student for student in run.students if student.student not in by_number]
        people = {**by_number, **_matched(others, table, _moodle_keys, notes)}
    else:
        people = {}
        for student in run.students:
            participant = _participant(student, chapter)
            if participant is None:
                notes.append(
                    f"{_who(student)} has no participant number of Moodle: give the worksheet "
                    "downloaded from the assignment as a roster."
                )
                continue
            people[student.student] = {
                "Identifier": participant,
                "Full name": student.name,
                "Grade can be changed": "Yes",
                "Last modified (submission)": "-",
                "Last modified (grade)": "-",
            }
        if people:
            notes.append(
                'In Moodle, tick "Allow updating records that have been modified more recently in '
                'Moodle than in the spreadsheet".'
            )
    rows: list[list[str | Decimal | int]] = [list(columns)]
    for student in run.students:
        if student.student not in people:
            continue
        own = totals(student, run, rules, marks)
        part = (
            own.chapters if chapter is None else [c for c in own.chapters if c.chapter == chapter]
        )
        grade = sum((c.total for c in part), Decimal(0))
        maximum = sum((c.maximum for c in part), Decimal(0))
        if grade > maximum:
            notes.append(
                f"{_who(student)} has {number(grade)} of {number(maximum)}: Moodle drops a grade "
                "above the assignment's maximum, so raise that first."
            )
        cells: dict[str, str | Decimal | int] = {
            column: _flat(text, 1000) for column, text in people[student.student].items()
        }
        cells["Grade"], cells["Maximum Grade"] = grade, maximum
        cells["Feedback comments"] = _comments(
            student, run, chapter, marks or {}, [c.line for c in part if c.line]
        )
        rows.append([cells.get(column, "") for column in columns])
    with atomic_write(path, "wb") as file:
        file.write(reports.sheet(rows).encode("utf-8"))
    return notes


def _participant(student: StudentResult, chapter: int | None) -> str | None:
    numbers = {
        found[1]
        for file in student.files
        if chapter in (None, file.chapter) and (found := _PARTICIPANT.search(file.file))
    }
    return f"Participant {numbers.pop()}" if len(numbers) == 1 else None


def _moodle_keys(row: Mapping[str, str]) -> list[list[str]]:
    address = row.get("Email address", "")
    return [
        [address, row.get("ID number", ""), row.get("Username", "")],
        [address.partition("@")[0]],
        [row["Identifier"], row["Identifier"].removeprefix("Participant ")],
        [row.get("Full name", "")],
    ]


def _comments(
    student: StudentResult, run: Run, chapter: int | None, marks: Marks, late: Sequence[str]
) -> str:
    """The feedback in short, as the HTML that Moodle's comments are."""
    lines = [html.escape(line) for line in late]
    for exercise in run.exercises:
        if chapter not in (None, exercise.chapter):
            continue
        said = [
            f"<strong>{html.escape(exercise.title)}</strong>: "
            f"{number(earned(student, exercise, marks))} of {exercise.points}"
        ]
        result = student.exercises.get(exercise.exercise_id)
        if result is not None and result.status != "passed":
            said += [html.escape(_flat(text, 500)) for text in _why(result)]
        mark = marks.get((student.student, exercise.exercise_id))
        if mark is not None and mark.comment:
            said.append(html.escape(_flat(mark.comment, 2000)))
        lines.append(". ".join(text.rstrip(".") for text in said) + ".")
    return "".join(f"<p>{line}</p>" for line in lines)


def _why(result: ExerciseResult) -> list[str]:
    """The shortest account of an answer that did not pass."""
    if result.diagnoses:
        return [result.diagnoses[0]]
    if result.problem:
        return [result.problem]
    failing = [finding.statement for finding in result.findings if not finding.holds]
    return failing[:1] or [result.status]


# --- matching with what a system exported ---------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Roster:
    """A table that Canvas or Moodle exported."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, needed: Sequence[str], what: str) -> "_Roster":
        text = path.read_bytes().decode("utf-8-sig", "replace")
        for delimiter in (",", ";", "\t"):
            try:
                table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
            except csv.Error as error:
                raise ValueError(f"roster={path.name} is not a table: {error}.") from None
            if table and set(needed) <= {cell.strip() for cell in table[0]}:
                columns = [cell.strip() for cell in table[0]]
                rows = [dict(zip(columns, row, strict=False)) for row in table[1:] if any(row)]
                full = [{**dict.fromkeys(columns, ""), **row} for row in rows]
                return cls(columns, full)
        raise ValueError(
            f"roster={path.name} is not {what}: it has no columns {', '.join(needed)}."
        )


def _matched(
    students: Sequence[StudentResult], table: _Roster, keys: Any, notes: list[str]
) -> dict[str, Mapping[str, str]]:
    """The row of each student who can be told from all others; a note for each who cannot.

    A student's id is compared with each kind of key in turn, the name with the last kind only.
    """
    found: dict[str, Mapping[str, str]] = {}
    taken: set[int] = set()
    ranks = max((len(keys(row)) for row in table.rows), default=0)
    for rank in range(ranks):
        index: dict[str, set[int]] = {}
        for place, row in enumerate(table.rows):
            for key in keys(row)[rank : rank + 1]:
                for text in key:
                    index.setdefault(text.strip().casefold(), set()).add(place)
        index.pop("", None)
        for student in students:
            if student.student in found:
                continue
            own = {student.student, student.name} if rank == ranks - 1 else {student.student}
            places = set().union(*(index.get(text.strip().casefold(), set()) for text in own))
            places -= taken
            if len(places) == 1:
                place = places.pop()
                taken.add(place)
                found[student.student] = table.rows[place]
    notes += [
        f"{_who(student)} is not in the roster, or not told from another there: left out."
        for student in students
        if student.student not in found
    ]
    return found


def _who(student: StudentResult) -> str:
    return one_line(student.student)


def _flat(text: str, limit: int = reports.NAME_LIMIT) -> str:
    return one_line(text, limit)


def _chapters(run: Run) -> list[int]:
    return sorted({exercise.chapter for exercise in run.exercises})


def _whole(run: Run, rules: Rules | None) -> Sequence[reports.ChapterTotal]:
    """Each chapter's maximum, which is the same for everybody."""
    return totals(StudentResult("nobody", "nobody", (), {}), run, rules).chapters


# --- nbgrader -------------------------------------------------------------------------------------


def nbgrader(
    run: Run,
    path: Path,
    *,
    submissions: Sequence["Submission"] = (),
    rules: Rules | None = None,
    marks: Marks | None = None,
) -> list[str]:
    """Write or update an nbgrader gradebook: ``gradebook.db``, which nbgrader reads as its own.

    An assignment ``chapter-03`` per chapter with one notebook, in it the cells that ``release``
    hands out for each exercise, and a submission per file that was handed in. What the checks give
    is the automatic score, a manual mark the manual score; an exercise for extra credit has a
    maximum of 0; the late penalty is the notebook's. An existing gradebook keeps what is not of
    this run, and the scores and comments that were given in formgrader where there is no mark; a
    line says where that differs.

    The folder of ``path`` is then a course folder: it gets ``source/chapter-03``, without which
    formgrader lists no assignment, and for each of ``submissions`` the answers, without outputs,
    in ``autograded/<student>/chapter-03/chapter-03.ipynb``, where formgrader finds what to mark.

    Names are written without commas: ``nbgrader export`` does not quote its cells.

    Checked against nbgrader 0.9.6: its ``Gradebook`` makes the file, and the tests run
    ``nbgrader export`` on it and read it as formgrader does, through ``NbGraderAPI``.

    Raises:
        ValueError: nbgrader is not installed, or ``path`` is something else than a gradebook.
        OSError: the folder cannot be written.
    """
    api = _api()
    path.parent.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    # nbgrader commits after every step: it works on a copy, which replaces the file at the end.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        copy = Path(folder).resolve() / "gradebook.db"
        if path.exists():
            _copy_database(path, copy)
        with _scripts_on_path(), _quiet(), api.Gradebook(_sqlite(copy)) as book:
            _fill(api, book, run, rules or Rules(), marks or {}, notes)
        copy.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o640)
        copy.replace(path)
    for chapter in _chapters(run):
        (path.parent / "source" / _assignment(chapter)).mkdir(parents=True, exist_ok=True)
    students = {student.student for student in run.students}
    for submission in submissions:
        if submission.student in students and submission.answers:
            name = _assignment(submission.chapter)
            folder_of_one = path.parent / "autograded" / submission.student / name
            with atomic_write(folder_of_one / f"{name}.ipynb") as file:
                file.write(_notebook(run, submission))
    return notes


def _notebook(run: Run, submission: "Submission") -> str:
    """The answers as nbgrader expects a graded notebook: data only, nothing has been run."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for exercise in _of_chapter(run, submission.chapter):
        answer = submission.answers.get(exercise.exercise_id)
        if answer is None:
            continue
        solution, graded = _cells(exercise)
        points: dict[str, Any] = {"grade": True, "points": exercise.points}
        kind = points if solution == graded else {}
        notebook.cells.append(_cell(visible(answer.source), solution, solution=True, **kind))
        if solution != graded:
            said = f"# The points of {exercise.exercise_id}, as its checks gave them."
            notebook.cells.append(_cell(said, graded, locked=True, **points))
    return nbformat.writes(notebook)


def _cells(exercise: ExerciseInfo) -> tuple[str, str]:
    """nbgrader's names of the cell with the answer and of the one with the points."""
    return grade_id(exercise.exercise_id), graded_id(exercise.exercise_id, exercise.kind)


def _cell(source: str, name: str, **kind: Any) -> Any:
    cell = nbformat.v4.new_code_cell(source)
    cell.id = name
    cell.metadata["nbgrader"] = {
        "schema_version": SCHEMA_VERSION,
        "cell_type": "code",
        "grade": False,
        "solution": False,
        "task": False,
        "locked": False,
        "grade_id": name,
        **kind,
    }
    return cell


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that nbgrader draws from its libraries; nobody here can mend them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _api() -> Any:
    with _quiet():
        try:
            import nbgrader.api
        except ImportError as error:
            raise ValueError(
                "A gradebook needs nbgrader, which is not installed: "
                "python -m pip install 'gpt-piece-by-piece[instructor]'"
            ) from error
    return nbgrader.api


@contextlib.contextmanager
def _scripts_on_path() -> Iterator[None]:
    """For a new gradebook nbgrader runs ``alembic``, which lies beside this Python."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _sqlite(path: Path) -> Any:
    from sqlalchemy.engine import URL  # nbgrader brings it

    return URL.create("sqlite", database=str(path))  # whatever characters the path has


def _copy_database(path: Path, copy: Path) -> None:
    try:
        source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            tables = {row[0] for row in target.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        raise ValueError(f"path={path.name} is not an nbgrader gradebook: {error}.") from None
    if not {"assignment", "grade_cells", "submitted_notebook"} <= tables:
        raise ValueError(f"path={path.name} is a database, but not an nbgrader gradebook.")


def _fill(api: Any, book: Any, run: Run, rules: Rules, marks: Marks, notes: list[str]) -> None:
    for chapter in _chapters(run):
        name = _assignment(chapter)
        due = rules.due_date("", chapter)
        book.update_or_create_assignment(name, duedate=due)
        book.update_or_create_notebook(name, name)
        for exercise in _of_chapter(run, chapter):
            solution, graded = _cells(exercise)
            points = 0 if exercise.exercise_id in rules.extra else exercise.points
            book.update_or_create_grade_cell(graded, name, name, max_score=points, cell_type="code")
            book.update_or_create_solution_cell(solution, name, name)
    for student in run.students:
        first, _, last = _plain(student.name).rpartition(" ")
        names = {"first_name": guard(first), "last_name": guard(last)}
        book.update_or_create_student(student.student, **names)
        own = {chapter.chapter: chapter for chapter in totals(student, run, rules, marks).chapters}
        for file in student.files:
            if file.chapter not in own:
                continue
            name = _assignment(file.chapter)
            due, later = (rules.due_date(who, file.chapter) for who in ("", student.student))
            submission = book.update_or_create_submission(
                name,
                student.student,
                timestamp=_utc(file.submitted),
                extension=later - due if due and later and later != due else None,
            )
            (notebook,) = submission.notebooks
            notebook.late_submission_penalty = float(own[file.chapter].penalty)
            _grade(api, book, notebook, student, run, marks, notes)
            book.db.commit()


def _grade(
    api: Any,
    book: Any,
    notebook: Any,
    student: StudentResult,
    run: Run,
    marks: Marks,
    notes: list[str],
) -> None:
    grades = {grade.cell_id: grade for grade in notebook.grades}
    comments = {comment.cell_id: comment for comment in notebook.comments}
    cells = {cell.name: cell for cell in notebook.notebook.grade_cells}
    remarks = {cell.name: cell for cell in notebook.notebook.solution_cells}
    for exercise in run.exercises:
        name = exercise.exercise_id
        solution, graded = _cells(exercise)
        if graded not in cells or solution not in remarks:
            continue  # of another chapter
        place, remark = cells[graded].id, remarks[solution].id
        # An older gradebook lacks these of a newer exercise.
        grade = grades.get(place) or api.Grade(cell_id=place, notebook=notebook)
        comment = comments.get(remark) or api.Comment(cell_id=remark, notebook=notebook)
        book.db.add_all([grade, comment])
        result = student.exercises.get(name)
        mark = marks.get((student.student, name), reports.Mark(None))
        before = grade.manual_score
        grade.auto_score = float(result.points if result else 0)
        if mark.value is not None:
            grade.manual_score = float(mark.value)
        if before is not None and before != grade.manual_score:
            notes.append(
                f"{_who(student)}, {name}: the gradebook had {before:g} as manual score; it has "
                f"{grade.manual_score:g} now, as the marks have."
            )
        elif before is not None and mark.value is None:
            notes.append(
                f"{_who(student)}, {name}: the gradebook has {before:g} as manual score, the marks "
                "have none. It stays, and counts in the gradebook only."
            )
        explore = exercise.kind == "explore"
        grade.needs_manual_grade = explore and grade.manual_score is None
        told = _why(result) if result is not None and result.status != "passed" else []
        comment.auto_comment = visible("\n".join(told), 4000) or None
        if mark.comment:
            comment.manual_comment = visible(mark.comment, 4000)


def _utc(submitted: str | None) -> datetime.datetime | None:
    try:
        when = datetime.datetime.fromisoformat(submitted or "")
        return when if when.tzinfo is None else when.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _plain(name: str) -> str:
    """A name that stays one cell in a table without quotes."""
    return " ".join(re.sub(r'[,;"]+', " ", visible(name[:100])).split())


def _assignment(chapter: int) -> str:
    return f"chapter-{chapter:02}"


def _of_chapter(run: Run, chapter: int) -> list[ExerciseInfo]:
    return [exercise for exercise in run.exercises if exercise.chapter == chapter]


# --- JPlag ----------------------------------------------------------------------------------------


def jplag(submissions: Sequence["Submission"], path: Path) -> list[str]:
    """Write a folder for JPlag: for each student one folder, in it one ``.py`` per chapter.

    A file has the exercises' cells and nothing else, each under a line ``# %% 03.split_heads``;
    no name or id stands in it but what the student wrote there. The line that runs JPlag is in
    ``how-to-run-jplag.txt`` beside the folder ``submissions`` and is returned. Checked against
    JPlag's README: a folder per submission, ``python3`` as the language, ``-r`` for the result.

    Raises:
        ValueError: ``path`` has files that this function did not make, or a student's id is no
            folder's name.
        OSError: the folder cannot be written.
    """
    root = path / "submissions"
    line = "java -jar jplag.jar -l python3 -r result submissions"
    if root.exists() and not (path / _MADE_FOR_JPLAG).is_file():
        raise ValueError(f"path={path.name} has a folder 'submissions' that was not made here.")
    if root.is_symlink():
        raise ValueError(f"path={path.name}: its folder 'submissions' is a link.")
    texts: dict[Path, str] = {}
    for submission in submissions:
        reports.check_id(submission.student)
        cells = sorted(submission.answers.items())
        if not cells:
            continue
        text = "\n\n".join(
            f"# %% {exercise}\n{visible(answer.source).rstrip()}" for exercise, answer in cells
        )
        texts[root / submission.student / f"chapter_{submission.chapter:02}.py"] = f"{text}\n"
    with atomic_write(path / _MADE_FOR_JPLAG) as file:
        file.write(
            f"In this folder, with Java 21 and the jar of JPlag's latest release:\n\n{line}\n"
        )
    if root.exists():
        shutil.rmtree(root)
    for target, text in texts.items():
        with atomic_write(target) as file:
            file.write(text)
    return [line]
