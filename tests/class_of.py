"""A class that never was: submissions made from the course's own notebooks.

``make(folder, students)`` writes them as a folder per student, as one flat folder, or as the zips
that Moodle and Canvas export, and says what each student answered.
"""

import copy
import functools
import json
import os
import random
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import nbformat

from course_pkg.authoring.exercises import Exercise, Solutions, read_solutions, student_notebook

ROOT = Path(__file__).parent.parent
CHAPTERS = (1, 2, 3, 4, 5, 6)
Layout = Literal["folders", "flat", "moodle", "canvas"]

_FIRST = ("Anna", "Béla", "Chidi", "Dilnoza", "Emre", "Fatima", "Jürgen", "Zoë", "Мария", "明")
_LAST = ("Nowak", "Okafor", "Lindqvist", "Sørensen", "Ricci", "Haddad", "Ivanova")
_MARKERS = re.compile(r"^[ ]*### (?:BEGIN|END) SOLUTION\n?", re.M)
_RAISED = re.compile(r"""^([ ]*)raise NotImplementedError\(["'][\w.]+["']\)""", re.M)
_BLANK = re.compile(r"^(\w+) = \.\.\..*$", re.M)


@functools.cache
def page_of(chapter: int) -> Solutions:
    """The solutions page of a chapter."""
    (path,) = (ROOT / "solutions").glob(f"{chapter:02d}_*.md")
    return read_solutions(path)


@functools.cache
def _template(chapter: int) -> dict[str, Any]:
    return json.loads(nbformat.writes(student_notebook(page_of(chapter))))


def notebook_of(chapter: int, sources: dict[str, str] | None = None) -> dict[str, Any]:
    """The student notebook of a chapter, with these sources in place of the stubs."""
    notebook = copy.deepcopy(_template(chapter))
    for cell in notebook["cells"]:
        identifier = cell["metadata"].get("exercise", {}).get("id")
        if identifier in (sources or {}):
            cell["source"] = sources[identifier].splitlines(keepends=True)
    return notebook


def ids_of(chapters: Sequence[int] = CHAPTERS) -> dict[int, tuple[str, ...]]:
    """The ids of the exercises of each chapter, as ``collect`` takes them."""
    return {chapter: tuple(e.id for e in page_of(chapter).exercises) for chapter in chapters}


def variant(exercise: Exercise, kind: str, generator: random.Random | None = None) -> str:
    """An answer of a kind: ``right``, ``stub``, ``wrong`` (a value, but no right one) or
    ``broken`` (no value: a syntax error, or an exception)."""
    if kind == "right":
        (cell,) = (cell for cell in exercise.cells if "exercise" in cell.metadata)
        return _MARKERS.sub("", cell.source).strip("\n")
    if kind == "stub":
        return exercise.stub
    if kind == "wrong":
        return _BLANK.sub(r"\1 = 0", _RAISED.sub(r"\1return None", exercise.stub))
    if generator is not None and generator.random() < 0.5:
        return _BLANK.sub(r"\1 = [0][1]", _RAISED.sub(r"\1raise KeyError(0)", exercise.stub))
    return exercise.stub + "\n)  # too many"


def make(
    folder: Path,
    students: int,
    *,
    chapters: Sequence[int] = CHAPTERS,
    seed: int = 0,
    layout: Layout = "folders",
    attempts: bool = False,
) -> dict[str, dict[str, str]]:
    """Write a class's submissions.

    Args:
        folder: where to; it is made where it is missing.
        students: how many.
        chapters: which notebooks each of them hands in.
        seed: of the answers; the same seed gives the same files.
        layout: ``folders``, ``flat``, ``moodle`` or ``canvas``; the last two are zips, one for each
            chapter.
        attempts: whether every third student also has an earlier attempt, all stubs.

    Returns:
        For each student's id, and each exercise's: ``right``, ``stub``, ``wrong`` or ``broken``.
    """
    generator = random.Random(seed)
    answers: dict[str, dict[str, str]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    files: list[tuple[int, str, str, datetime]] = []
    for number in range(students):
        first, last = generator.choice(_FIRST), generator.choice(_LAST)
        if layout == "moodle":
            name = f"{first} {last} {number:03d}"
            student = name.replace(" ", "_")
        else:
            name = student = f"{last}{first}{number:03d}".lower()
        skill = generator.uniform(0.3, 0.98)
        answers[student] = {}
        for chapter in chapters:
            sources = {}
            for exercise in page_of(chapter).exercises:
                kind = "right"
                if generator.random() > skill:
                    kind = generator.choices(("stub", "wrong", "broken"), (4, 4, 2))[0]
                answers[student][exercise.id] = kind
                sources[exercise.id] = variant(exercise, kind, generator)
            time = datetime(2026, 3, chapter, 12, tzinfo=UTC) + timedelta(minutes=number)
            stem = page_of(chapter).stem
            if attempts and number % 3 == 0:
                text = json.dumps(notebook_of(chapter), indent=1)
                earlier = time - timedelta(hours=5)
                files.append((chapter, _path(layout, name, number, f"{stem}.ipynb"), text, earlier))
                stem += "-1" if layout == "canvas" else " (1)"
            text = json.dumps(notebook_of(chapter, sources), indent=1)
            files.append((chapter, _path(layout, name, number, f"{stem}.ipynb"), text, time))
    _write(folder, layout, files)
    return answers


def _path(layout: Layout, name: str, number: int, file: str) -> str:
    match layout:
        case "folders":
            return f"{name}/{file}"
        case "flat":
            return f"{name}_{file}"
        case "moodle":
            return f"{name}_{1000000 + number}_assignsubmission_file_/{file}"
        case "canvas":
            late = "_LATE" if number % 7 == 6 else ""
            return f"{name}{late}_{5000 + number}_{90000 + number}_{file}"


def _write(folder: Path, layout: Layout, files: Sequence[tuple[int, str, str, datetime]]) -> None:
    if layout in ("folders", "flat"):
        for _, path, text, time in files:
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
            os.utime(target, (time.timestamp(), time.timestamp()))
        return
    for chapter in sorted({chapter for chapter, *_ in files}):
        title = f"CS101-Exercises {chapter}-{4000 + chapter}"
        name = title if layout == "moodle" else f"submissions-{chapter:02d}"
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text, time in _of_chapter(files, chapter):
                entry = zipfile.ZipInfo(path, time.astimezone().timetuple()[:6])
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, text)


def _of_chapter(
    files: Sequence[tuple[int, str, str, datetime]], chapter: int
) -> Iterator[tuple[str, str, datetime]]:
    for of, path, text, time in files:
        if of == chapter:
            yield path, text, time
