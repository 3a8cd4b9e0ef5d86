"""What students get, made from ``solutions/``: notebooks with stubs, and nothing that tells.

The notebooks carry nbgrader's metadata beside the course's own, so that they can be handed out,
collected and graded by either. Nothing is put in place before every file of the release has been
searched for lines of the solutions and of what is for instructors only.

The cells of a released notebook, as nbgrader sees them:

==================================  =====================  ======================
cell                                grade_id               nbgrader's kind
==================================  =====================  ======================
answer of exercise 03.split_heads   03-split_heads         autograded answer
its check                           03-split_heads-check   autograder tests
answer of an *explore* exercise     03-heads               manually graded answer
its check                           03-heads-check         read-only
everything else that is given       03-given-1, ...        read-only
where findings are written down                            none: it is the student's own
==================================  =====================  ======================

So exactly one cell of an exercise has its points: ``graded_id`` says which.
"""

import base64
import contextlib
import ctypes
import dataclasses
import hashlib
import html
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_pkg.files import atomic_write

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from course_pkg.authoring.exercises import Exercise, Solutions
    from course_pkg.grading.shipped import Package

MANIFEST = ".release.json"
FORMAT = 1  # of the manifest
SCHEMA_VERSION = 3  # of nbgrader's cell metadata

_EXERCISE_ID = re.compile(r"([0-9]{2})\.([a-z][a-z0-9_]*)")
_GRADE_ID = re.compile(r"([0-9]{2})-([a-z][a-z0-9_]*)")
_BEGIN_HIDDEN, _END_HIDDEN = "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"
_FINDINGS = "**What I found:** double-click here and write it down."
_REPOSITORY = ("book", "course_pkg", "exercises", "scripts", "solutions", "tests")
# Line by line, a finished piece may say what a solution says. What a chapter prints is known to
# all; these few lines are in pieces that no chapter prints in full.
_ALSO_IN_PIECES = {
    "course_pkg/generation.py": ("module.training = training",),
    "course_pkg/tokenizer.py": ("longest_first = sorted(names, key=len, reverse=True)",),
    "course_pkg/training.py": (
        '"model": self.model.state_dict(),',
        '"optimizer": self.optimizer.state_dict(),',
        "for inputs, targets in batches:",
        "module.training = training",
    ),
}


def grade_id(exercise_id: str) -> str:
    """nbgrader's id of an exercise's answer: ``"03.split_heads"`` gives ``"03-split_heads"``.

    Raises:
        ValueError: it is no exercise's id.
    """
    match = _EXERCISE_ID.fullmatch(exercise_id)
    if match is None:
        raise ValueError(f"exercise_id={exercise_id!r} must look like '03.split_heads'.")
    return f"{match[1]}-{match[2]}"


def exercise_id(grade_id: object) -> str | None:
    """The exercise whose answer has this id in nbgrader, the inverse of ``grade_id``.

    ``None`` for anything else: the id of a check or of a given cell, or no string at all.
    """
    match = _GRADE_ID.fullmatch(grade_id) if isinstance(grade_id, str) else None
    return f"{match[1]}.{match[2]}" if match else None


def check_grade_id(exercise_id: str) -> str:
    """nbgrader's id of an exercise's check: ``"03-split_heads-check"``.

    Raises:
        ValueError: it is no exercise's id.
    """
    return f"{grade_id(exercise_id)}-check"


def graded_id(exercise_id: str, kind: str) -> str:
    """nbgrader's id of the one cell that has the exercise's points.

    It is the check, and for the kind ``"explore"`` the answer, which a person reads.

    Raises:
        ValueError: it is no exercise's id.
    """
    return grade_id(exercise_id) if kind == "explore" else check_grade_id(exercise_id)


def release(
    root: Path,
    to: Path,
    *,
    chapters: Sequence[int] = (),
    with_checks: bool = False,
    force: bool = False,
) -> list[Path]:
    """Make the student files of some chapters, or of all.

    Afterwards ``to`` holds exactly this release: a notebook as ``.ipynb`` and ``.md`` for each
    chapter, ``README.md``, and ``.release.json``, which says what was made. Files of an earlier
    release are replaced or, where this one does not have them, removed. On any error ``to`` is
    what it was before. The same repository always gives the same bytes.

    Args:
        root: the repository; its ``solutions/`` are the source.
        to: the folder to make.
        chapters: numbers of chapters; none means all.
        with_checks: add ``course_pkg/``, with which ``check(...)`` runs without the repository:
            the finished pieces, and checks that hold recordings in place of solutions.
        force: go ahead though ``to`` holds other files, or files of a release that were changed.
            Those that this release makes too are overwritten; the others stay.

    Returns:
        the files, sorted.

    Raises:
        ValueError: there is no such chapter, ``to`` is not a folder to write to, it holds other
            files, a solution would be given away, or nbgrader is not installed.
        OSError: ``to`` cannot be written.
    """
    root, to = root.resolve(), to.resolve()
    everything = _pages(root)
    pages = _chosen(everything, chapters)
    made_before = _made_before(root, to, force)
    watch = _Watch(everything, root)
    files = _student_files(pages)
    package = None
    if with_checks:
        from course_pkg.grading import shipped

        package = shipped.package(root, pages, watch.is_told_in)
        files |= package.files
    files["README.md"] = _readme(pages, package).encode()
    files[MANIFEST] = _manifest(files, pages)

    to.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}.", suffix=".tmp"))
    try:
        new = work / "new"
        for name, content in files.items():
            with atomic_write(new / name, "wb") as file:
                file.write(content)
        watch.refuse_leaks(new)
        _carry_over(to, new, made_before)
        _put_in_place(new, to, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return sorted(to / name for name in files)


def _pages(root: Path) -> list["Solutions"]:
    """All solutions, in the book's order."""
    try:
        from course_pkg.authoring.exercises import read_solutions
    except ImportError as error:
        raise _not_installed(error) from error
    paths = sorted((root / "solutions").glob("[0-9][0-9]_*.md"))
    if not paths:
        raise ValueError(f"root={str(root)!r} has no solutions/NN_name.md to release.")
    return [read_solutions(path) for path in paths]


def _chosen(pages: list["Solutions"], chapters: Sequence[int]) -> list["Solutions"]:
    by_number = {int(page.stem[:2]): page for page in pages}
    for chapter in chapters:
        if chapter not in by_number:
            known = ", ".join(map(str, by_number))
            raise ValueError(f"chapter={chapter!r} has no exercises. Allowed: {known}.")
    return [page for number, page in by_number.items() if number in (chapters or by_number)]


def _not_installed(error: ImportError) -> ValueError:
    return ValueError(
        f"{error.name or 'a package'} is not installed: "
        'pip install "gpt-piece-by-piece[book,instructor]"'
    )


# The notebooks


def _student_files(pages: list["Solutions"]) -> dict[str, bytes]:
    from course_pkg.authoring import formats

    files: dict[str, bytes] = {}
    for page in pages:
        notebook = _through_nbgrader(_notebook(page), page.stem)
        files[f"{page.stem}.ipynb"] = formats.to_ipynb(notebook).encode()
        # nbgrader reads no Markdown, and its checksums would stand between a reader and the text.
        cells = [
            formats.new_cell(
                cell.cell_type,
                cell.source,
                {k: v for k, v in cell.metadata.items() if k in formats.CELL_METADATA},
            )
            for cell in notebook.cells
        ]
        files[f"{page.stem}.md"] = formats.to_markdown(formats.new_notebook(cells)).encode()
    return files


def _notebook(page: "Solutions") -> "NotebookNode":
    """The student's cells with nbgrader's metadata, before its preprocessors have seen them."""
    from course_pkg.authoring import formats
    from course_pkg.authoring.exercises import student_notebook

    intro = (
        f"# Exercises: {page.topic}\n\n"
        "Replace each `raise NotImplementedError` and each `...` by your own code, then run the "
        "check under it. `README.md` says how to work and what to hand in."
    )
    cells = [formats.new_cell("markdown", intro), *student_notebook(page).cells[1:]]
    coming = list(page.exercises)
    current: Exercise | None = None
    released: list[NotebookNode] = []
    given = checks = 0

    def marked(cell: "NotebookNode", name: str, **kind: Any) -> "NotebookNode":
        cell.metadata["nbgrader"] = {
            "schema_version": SCHEMA_VERSION,
            "grade": False,
            "solution": False,
            "locked": False,
            "task": False,
            "grade_id": name,
            **kind,
        }
        return cell

    for cell in cells:
        if coming and cell.cell_type == "markdown" and cell.source.startswith(_heading(coming[0])):
            released += _findings(current)
            current, checks = coming.pop(0), 0
        if current is not None and "exercise" in cell.metadata:
            kind: dict[str, Any] = {"solution": True}
            if current.kind == "explore":
                kind |= {"grade": True, "points": current.points}
            released.append(marked(cell, grade_id(current.id), **kind))
        elif current is not None and formats.has_tag(cell, "check"):
            checks += 1
            name = check_grade_id(current.id)
            if checks == 1 and current.kind != "explore":
                kind = {"grade": True, "locked": True, "points": current.points}
            else:
                kind = {"locked": True}
            released.append(marked(cell, name if checks == 1 else f"{name}-{checks}", **kind))
        else:
            given += 1
            released.append(marked(cell, f"{page.stem[:2]}-given-{given}", locked=True))
    return formats.new_notebook([*released, *_findings(current)])


def _heading(exercise: "Exercise") -> str:
    return f"## {exercise.heading}\n"


def _findings(exercise: "Exercise | None") -> list["NotebookNode"]:
    """A place for what an explore exercise asks to write down."""
    from course_pkg.authoring import formats

    asked = exercise is not None and exercise.kind == "explore"
    return [formats.new_cell("markdown", _FINDINGS)] if asked else []


def _through_nbgrader(notebook: "NotebookNode", stem: str) -> "NotebookNode":
    """The notebook after the steps of ``nbgrader generate_assignment``.

    ``ClearSolutions`` is not among them: it puts one text into every solution region, and our
    stubs name their exercise, or the variable to assign. ``SaveCells`` and ``OverwriteCells``
    need a gradebook, which the grader makes. ``ClearHiddenTests`` may find its regions in checks
    without points too.
    """
    try:
        from nbgrader.nbgraderformat import ValidationError
        from nbgrader.preprocessors import (
            CheckCellMetadata,
            ClearHiddenTests,
            ClearOutput,
            ComputeChecksums,
            LockCells,
        )
    except ImportError as error:
        raise _not_installed(error) from error
    resources: Any = {}
    steps = (
        LockCells(),
        ClearOutput(),
        ClearHiddenTests(enforce_metadata=False),
        ComputeChecksums(),
        CheckCellMetadata(),
    )
    try:
        for step in steps:
            notebook, resources = step.preprocess(notebook, resources)
    except (RuntimeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{stem}.md: nbgrader does not accept its cells: {reason}") from error
    return notebook


def _readme(pages: list["Solutions"], package: "Package | None") -> str:
    table = [
        f"| `{page.stem}.ipynb` | {page.topic} | {len(page.exercises)} "
        f"| {sum(exercise.points for exercise in page.exercises)} |"
        for page in pages
    ]
    example = f"{pages[0].stem}.ipynb"
    setup = (
        "You need Python 3.11 or later. In this folder, once:\n\n"
        "```\npython -m pip install . jupyterlab\n```\n\n"
        "and then `jupyter lab`. The course's package is in `course_pkg/`. Its checks hold what a "
        "right answer shows, and no solutions."
        if package is not None
        else "You need Jupyter and the course's package, `course_pkg`: your instructor says how to "
        "install it."
    )
    parts = [
        "# Your exercises",
        "| file | about | exercises | points |\n|---|---|---|---|\n" + "\n".join(table),
        "## How to work\n\n" + setup,
        "Replace each `raise NotImplementedError` and each `...` by your own code, and run the "
        "check under it as often as you like. Names and parameters stay as they are given. Each "
        "notebook is here twice, as `.ipynb` for Jupyter and as `.md` for a text editor: work in "
        "one of the two.",
        "## What a check says\n\n"
        "A line for each property: whether it holds and, if not, on which input and what came out. "
        "If your result is exactly that of a well-known mistake, it says which. `hint=True` in the "
        'check gives a hint: `check("...", answer, hint=True)`.',
        "## What to hand in\n\n"
        f"The notebook, under its own name: `{example}`, or the `.md`. Each exercise is found by "
        "the metadata of its cell, so write the answer into the cell that is there, and do not "
        "copy it to a new notebook. You may add cells. An answer must not need them: put the "
        "functions and imports that it uses into its own cell.",
        "## How grading differs from the checks\n\n"
        "- The inputs are fresh: other numbers and sizes, the same properties.\n"
        "- Only the exercises' cells are run, each on its own, without network and files.\n"
        "- `course_pkg` is not there, apart from what the given cells of the notebook import.\n"
        "- There is a limit on time and memory; a right answer needs a small part of it.\n"
        "- In an *explore* exercise a person also reads what you found.\n\n"
        "A cell that fails costs its own exercise and no other.",
    ]
    if package is not None and (package.unchecked or package.properties):
        whole = [
            f"- {', '.join(f'`{x}`' for x, why in package.unchecked.items() if why == reason)}: "
            f"{reason[0].lower()}{reason[1:]}"
            for reason in dict.fromkeys(package.unchecked.values())
        ]
        partly = [
            f"- of `{name}` the properties: {', '.join(properties)}."
            for name, properties in package.properties.items()
        ]
        parts.append("## What is checked only when you hand in\n\n" + "\n".join([*whole, *partly]))
    return "\n\n".join(parts) + "\n"


def _manifest(files: Mapping[str, bytes], pages: list["Solutions"]) -> bytes:
    made = {
        "format": FORMAT,
        "chapters": [int(page.stem[:2]) for page in pages],
        "files": {name: _digest(content) for name, content in sorted(files.items())},
    }
    return (json.dumps(made, indent=1) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# What must not get out


@dataclasses.dataclass(frozen=True)
class _Secret:
    """A telling line; ``needle`` is what is searched for, ``printed`` whether the book shows it."""

    exercise: str
    stem: str
    line: str
    needle: str
    printed: bool


class _Watch:
    """Looks for telling lines of all chapters.

    What the book prints is known to all, and is a secret only in the notebook of its own chapter.
    """

    def __init__(self, pages: list["Solutions"], root: Path) -> None:
        book = [p.read_text(encoding="utf-8") for p in (root / "book").glob("[0-9][0-9]_*.md")]
        printed = _searchable("\n".join(book))
        self._secrets = [secret for page in pages for secret in _secrets(page, printed)]
        self._shortest = min(len(secret.needle) for secret in self._secrets)

    def is_told_in(self, text: str) -> bool:
        """Whether a text that belongs to no chapter's notebook holds a telling line."""
        return self._first_in(_searchable(text), "") is not None

    def refuse_leaks(self, folder: Path) -> None:
        """Raises ValueError: a file below the folder holds a telling line."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            for text in map(_searchable, _texts(path.read_bytes())):
                secret = self._first_in(text, name)
                if secret is not None:
                    raise ValueError(
                        f"{name} would show a line of {secret.exercise} that is not for students: "
                        f"{secret.line!r}. Nothing was written."
                    )

    def _first_in(self, text: str, name: str) -> _Secret | None:
        if len(text) < self._shortest:
            return None
        allowed = {_searchable(line) for line in _ALSO_IN_PIECES.get(name, ())}
        stem = name.partition(".")[0]
        for secret in self._secrets:
            known = secret.printed and secret.stem != stem
            if not known and secret.needle in text and secret.needle not in allowed:
                return secret
        return None


def _secrets(page: "Solutions", printed: str) -> list[_Secret]:
    """What ``authoring.exercises.leaks`` finds in a page's own text is what it looks for."""
    from course_pkg.authoring import formats
    from course_pkg.authoring.exercises import leaks

    exercises = []
    for exercise in page.exercises:
        hidden = "\n".join(_hidden_tests(cell.source) for cell in exercise.cells)
        extra = formats.new_cell("code", hidden, {"tags": ["solution"]})
        exercises.append(dataclasses.replace(exercise, cells=(*exercise.cells, extra)))
    before = [cell for cell in page.preamble if formats.has_tag(cell, "solution")]
    before += [
        formats.new_cell("code", _hidden_tests(cell.source), {"tags": ["solution"]})
        for cell in page.preamble
    ]
    preamble = dataclasses.replace(
        page.exercises[0], id=page.stem, kind="implement", cells=tuple(before)
    )
    whole = dataclasses.replace(page, exercises=(preamble, *exercises))
    text = "\n".join(cell.source for exercise in whole.exercises for cell in exercise.cells)
    found = []
    for said in leaks(whole, text):
        name, _, line = said.partition(": ")
        needle = _searchable(line)
        found.append(_Secret(name, page.stem, line, needle, needle in printed))
    return found


def _hidden_tests(source: str) -> str:
    """The lines that ``ClearHiddenTests`` takes out."""
    lines, inside = [], False
    for line in source.splitlines():
        if _BEGIN_HIDDEN in line:
            inside = True
        elif _END_HIDDEN in line:
            inside = False
        elif inside:
            lines.append(line)
    return "\n".join(lines)


def _searchable(text: str) -> str:
    """Without what differs between a line and its copy: indents, wraps, quotes and escapes."""
    return re.sub(r"[\s\"'\\]+", "", text)


_BASE64 = re.compile(r"[\w+/-]{16,}(?:\s+[\w+/-]{16,})*(?:\s+[\w+/-]+)?", re.ASCII)


def _texts(content: bytes, depth: int = 3) -> Iterator[str]:
    """A file's text in every form in which it may stand there."""
    text = content.decode("utf-8", errors="ignore")
    yield text
    if depth == 0:
        return
    if "&" in text:
        yield html.unescape(text)
    if "\\u" in text:
        yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    with contextlib.suppress(ValueError, RecursionError):
        inner = "\n".join(_strings(json.loads(text)))
        if inner != text:
            yield from _texts(inner.encode("utf-8", errors="ignore"), depth - 1)
    for match in _BASE64.finditer(text):
        letters = "".join(match[0].split()).replace("-", "+").replace("_", "/")
        for start in range(4):  # what stands before it may look the same
            part = letters[start:]
            part = part[:-1] if len(part) % 4 == 1 else part + "=" * (-len(part) % 4)
            yield from _texts(base64.b64decode(part), depth - 1)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value; a notebook writes a text as a list of lines."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield "".join(value)
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)


# Into place


def _made_before(root: Path, to: Path, force: bool) -> set[str]:
    """The files in ``to`` that an earlier release made and nobody changed.

    Raises:
        ValueError: ``to`` is no folder of its own, or holds other files and ``force`` is not set.
    """
    given = f"to={str(to)!r}"
    if (
        to == root
        or to in root.parents
        or any(to == root / name or root / name in to.parents for name in _REPOSITORY)
    ):
        raise ValueError(f"{given} belongs to the repository: choose a folder of its own.")
    if not to.exists():
        return set()
    if not to.is_dir():
        raise ValueError(f"{given} is a file, not a folder.")
    recorded = _read_manifest(to / MANIFEST)
    made: list[str] = []
    other: list[str] = []
    for path in _files_below(to):
        name = path.relative_to(to).as_posix()
        if name == MANIFEST:
            ours = bool(recorded)
        else:
            ours = name in recorded and not path.is_symlink()
            ours = ours and recorded[name] == _digest(path.read_bytes())
        (made if ours else other).append(name)
    if other and not force:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise ValueError(
            f"{given} holds {other[0]}{more}, which no release made or which was changed since. "
            "--force keeps other files, and overwrites those that a release makes."
        )
    return set(made)


def _read_manifest(path: Path) -> dict[str, str]:
    """The digest of each file that a release made; nothing where no manifest can be read."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        return dict(made["files"]) if made["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _files_below(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [Path(place) / name for name in (*names, *links)]
    return sorted(found)


def _carry_over(to: Path, new: Path, made_before: set[str]) -> None:
    """Take along what no release made."""
    for path in _files_below(to) if to.exists() else []:
        name = path.relative_to(to).as_posix()
        target = new / name
        if name in made_before or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target, follow_symlinks=False)
        except (OSError, NotImplementedError):  # not on this file system
            shutil.copy2(path, target, follow_symlinks=False)


def _put_in_place(new: Path, to: Path, old: Path) -> None:
    """Make ``new`` be ``to``, in one step wherever the system has one; ``old`` is free to use."""
    if not to.exists():
        new.rename(to)
        return
    new.chmod(to.stat().st_mode & 0o7777)
    if _exchanged(new, to):
        return
    to.rename(old)
    try:
        new.rename(to)
    except BaseException:
        old.rename(to)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two folders have changed places: Linux does that in one step."""
    with contextlib.suppress(OSError, AttributeError):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        renameat2 = ctypes.CDLL(None).renameat2
        return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
    return False
