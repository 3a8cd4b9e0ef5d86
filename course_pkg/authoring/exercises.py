"""From ``solutions/NN_name.md``, the one source, to what a learner gets.

A solutions page is a notebook. Each level-2 heading starts an exercise; the text under it is the
prompt. One code cell carries the metadata ``exercise: {id: "03.split_heads", points: 2, kind:
implement}`` and marks what the learner writes:

    ### BEGIN SOLUTION
    ...
    ### END SOLUTION

At least one cell tagged ``check`` follows. Cells tagged ``solution`` explain; learners never get
them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_pkg.authoring import formats
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write

KINDS = ("implement", "predict", "debug", "measure", "explore")
PLACEHOLDER = "<!-- exercises -->"

_BEGIN = "### BEGIN SOLUTION"
_END = "### END SOLUTION"
_ID = re.compile(r"(\d\d)\.([a-z][a-z0-9_]*)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})")
# A line this short (`return x`, `B, T, D = x.shape`) says nothing about whose solution it is.
_TRIVIAL = 20


@dataclass(frozen=True)
class Exercise:
    """One exercise of a solutions page, and what becomes of its cells."""

    id: str
    number: str
    title: str
    kind: str
    points: int
    prompt: str
    stub: str
    cells: tuple[NotebookNode, ...]

    @property
    def heading(self) -> str:
        unit = "point" if self.points == 1 else "points"
        return f"Exercise {self.number} · {self.title} ({self.kind}, {self.points} {unit})"

    @property
    def label(self) -> str:
        return "ex-" + re.sub(r"[._]", "-", self.id)

    @property
    def anchor(self) -> str:
        """The heading's anchor, by the rule that GitHub and myst-parser share."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Solutions:
    """A parsed solutions page."""

    stem: str
    topic: str
    preamble: tuple[NotebookNode, ...]
    exercises: tuple[Exercise, ...]


def read_solutions(path: Path) -> Solutions:
    """Parse ``solutions/NN_name.md``.

    Raises:
        ValueError: the page breaks a rule of the format; the message names page and exercise.
    """
    stem = path.stem
    preamble, *sections = _sections(formats.read(path).cells, path.name)
    first = preamble[0].source if preamble else ""
    match = re.match(r"# Solutions: (.+)", first)
    if match is None:
        raise ValueError(f"{path.name}: the first line must be '# Solutions: <topic>'.")
    rest = formats.new_cell("markdown", first[match.end() :])
    kept = ([rest] if rest.source.strip() else []) + preamble[1:]
    if not sections:
        raise ValueError(f"{path.name}: no exercise, that is, no level-2 heading.")
    exercises: list[Exercise] = []
    for position, cells in enumerate(sections, start=1):
        exercise = _read_exercise(cells, stem, position, path.name)
        if exercise.id in {other.id for other in exercises}:
            raise ValueError(f"{path.name}: the id {exercise.id!r} is used twice.")
        exercises.append(exercise)
    return Solutions(stem, match[1].strip(), tuple(kept), tuple(exercises))


def _sections(cells: list[NotebookNode], name: str) -> list[list[NotebookNode]]:
    """The cells before the first level-2 heading, then those of each heading."""
    sections: list[list[NotebookNode]] = [[]]
    for cell in cells:
        if cell.cell_type == "code":
            sections[-1].append(cell)
            continue
        parts = _split_at_headings(cell.source)
        if formats.has_tag(cell, "solution") and len(parts) > 1:
            title = parts[1].splitlines()[0]
            raise ValueError(f"{name}: {title!r} is inside a solution cell; put '+++' before it.")
        for index, part in enumerate(parts):
            if index:
                sections.append([])
            if part.strip():
                sections[-1].append(formats.new_cell("markdown", part, cell.metadata))
    return sections


def _split_at_headings(text: str) -> list[str]:
    """The text before the first level-2 heading, then from each heading to the next."""
    parts: list[list[str]] = [[]]
    for line, fenced in _lines(text):
        if not fenced and line.startswith("## "):
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it stands inside a fence: a comment there looks like a heading."""
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if fence:
            yield line, True
            if match and match[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        else:
            fence = match[1] if match else ""
            yield line, bool(match)


def _read_exercise(cells: list[NotebookNode], stem: str, position: int, name: str) -> Exercise:
    heading, _, text = cells[0].source.partition("\n")
    title = heading.removeprefix("## ").strip()
    where = f"{name}: {title!r}"
    marked = [cell for cell in cells if "exercise" in cell.metadata]
    if len(marked) != 1:
        raise ValueError(f"{where} has {len(marked)} cells with 'exercise' metadata, not one.")
    cell = marked[0]
    if not formats.has_tag(cell, "exercise"):
        raise ValueError(f"{where}: the exercise cell lacks the tag 'exercise'.")
    data = dict(cell.metadata["exercise"])
    for key in data:
        if key not in ("id", "points", "kind"):
            raise unknown_name(f"{where}: exercise metadata", key, ("id", "points", "kind"))
    identifier, points, kind = str(data.get("id")), data.get("points"), str(data.get("kind"))
    match = _ID.fullmatch(identifier)
    if match is None or match[1] != stem[:2]:
        raise ValueError(f"{where}: id={identifier!r} must look like '{stem[:2]}.split_heads'.")
    if not isinstance(points, int) or points < 1:
        raise ValueError(f"{where}: points={points!r} must be a whole number, 1 or more.")
    if kind not in KINDS:
        raise unknown_name(f"{where}: kind", kind, KINDS)
    checks = [c for c in cells if formats.has_tag(c, "check") and identifier in c.source]
    if not checks or cells.index(checks[0]) < cells.index(cell):
        raise ValueError(f"{where}: no cell tagged 'check' that names {identifier!r} follows it.")

    before = cells[: cells.index(cell)]
    prompt = [text] + [c.source for c in before[1:] if c.cell_type == "markdown"]
    prompt_text = "\n\n".join(part.strip() for part in prompt if part.strip())
    if not prompt_text:
        raise ValueError(f"{where} has no prompt before its exercise cell.")
    if any(line.startswith("#") and not fenced for line, fenced in _lines(prompt_text)):
        raise ValueError(f"{where}: a prompt holds no headings, it is shown in a box.")
    stub = _stub(cell.source, identifier, "\n".join(c.source for c in checks), where)
    return Exercise(
        id=identifier,
        number=f"{int(stem[:2])}.{position}",
        title=title,
        kind=kind,
        points=points,
        prompt=prompt_text,
        stub=stub,
        cells=tuple(cells),
    )


def _regions(source: str, where: str) -> list[tuple[int, int]]:
    """The first and last line of each solution region, markers included."""
    regions, start = [], None
    for index, line in enumerate(source.splitlines()):
        marker = line.strip()
        if marker == _BEGIN and start is None:
            start = index
        elif marker == _END and start is not None:
            regions.append((start, index))
            start = None
        elif marker in (_BEGIN, _END):
            raise ValueError(f"{where}: {marker!r} on line {index + 1} has no partner.")
    if start is not None:
        raise ValueError(f"{where}: {_BEGIN!r} on line {start + 1} has no partner.")
    if not regions:
        raise ValueError(f"{where}: the exercise cell has no {_BEGIN!r}.")
    return regions


def _stub(source: str, identifier: str, checks: str, where: str) -> str:
    """The exercise cell with each region replaced by what the learner starts from."""
    lines = source.splitlines()
    for start, end in reversed(_regions(source, where)):
        indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
        if indent:
            body = [f'{indent}raise NotImplementedError("{identifier}")']
        else:
            body = _blanks("\n".join(lines[start + 1 : end]), checks, where)
        lines[start : end + 1] = body
    stub = "\n".join(lines)
    for scope in ast.walk(ast.parse(stub)):
        # Only a function's body waits to be called; anywhere else the cell itself would raise.
        if isinstance(scope, ast.Module | ast.ClassDef) and _raises(scope):
            raise ValueError(f"{where}: a region must lie in a function, or be 'name = value'.")
    return stub


def _raises(scope: ast.AST) -> bool:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Raise):
            return True
        inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        if not isinstance(node, inner) and _raises(node):
            return True
    return False


def _blanks(solution: str, checks: str, where: str) -> list[str]:
    """``name = ...`` for each name that the solution assigns and the check reads."""
    read = {node.id for node in ast.walk(ast.parse(checks)) if isinstance(node, ast.Name)}
    names = []
    for statement in ast.parse(solution).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names += [t.id for t in targets if isinstance(t, ast.Name) and t.id in read]
    if not names:
        raise ValueError(f"{where}: a region at the top level must assign a name that is checked.")
    return [f"{name} = ...  # your answer" for name in dict.fromkeys(names)]


def without_markers(source: str) -> str:
    """Code without the lines that say where a solution begins and ends."""
    lines = source.splitlines()
    return "\n".join(line for line in lines if line.strip() not in (_BEGIN, _END))


def solution_notebook(page: Solutions) -> NotebookNode:
    """What the book shows: every cell, with numbered headings."""
    intro = (
        f"# Solutions: {page.topic}\n\n"
        "Each exercise with one way to solve it, and why it works. Other ways pass the checks too. "
        f"Try it first: [the exercises](../exercises/{page.stem}.ipynb) belong to "
        f"[this chapter](../book/{page.stem}.ipynb)."
    )
    cells = [formats.new_cell("markdown", intro), *_copies(page.preamble)]
    for exercise in page.exercises:
        cells += _copies(_numbered(exercise))
    return formats.new_notebook(cells)


def student_notebook(page: Solutions) -> NotebookNode:
    """What a learner gets: no cell tagged ``solution``, and stubs in place of the regions."""
    intro = (
        f"# Exercises: {page.topic}\n\n"
        "Replace each `raise NotImplementedError` and each `...` by your own code, then run the "
        "check under it: it says what holds and what does not. The exercises belong to "
        f"[this chapter](../book/{page.stem}.ipynb); compare with "
        f"[the solutions](../solutions/{page.stem}.ipynb) when you are done."
    )
    cells = [formats.new_cell("markdown", intro), *_copies(page.preamble)]
    for exercise in page.exercises:
        for cell in _copies(_numbered(exercise)):
            if "exercise" in cell.metadata:
                cell.source = exercise.stub
            cells.append(cell)
    return formats.new_notebook([cell for cell in cells if not formats.has_tag(cell, "solution")])


def _copies(cells: tuple[NotebookNode, ...] | list[NotebookNode]) -> list[NotebookNode]:
    return [formats.new_cell(cell.cell_type, cell.source, dict(cell.metadata)) for cell in cells]


def _numbered(exercise: Exercise) -> list[NotebookNode]:
    first, *rest = exercise.cells
    _, _, text = first.source.partition("\n")
    return [formats.new_cell("markdown", f"## {exercise.heading}\n{text}", first.metadata), *rest]


def chapter_list(page: Solutions) -> str:
    """The exercises as a chapter shows them, in boxes with links to notebook and solution."""
    boxes = []
    for exercise in page.exercises:
        links = (
            f"[Work on it](../exercises/{page.stem}.ipynb#{exercise.anchor}) · "
            f"[Solution](../solutions/{page.stem}.ipynb#{exercise.anchor})"
        )
        body = f"{exercise.prompt}\n\n```python\n{exercise.stub}\n```\n\n{links}"
        # The box's own fence must be longer than any fence in the prompt.
        fence = "`" * (1 + max(len(run) for run in re.findall(r"`{3,}", body)))
        boxes.append(
            f"{fence}{{admonition}} {exercise.heading}\n"
            f":class: exercise\n:name: {exercise.label}\n\n{body}\n{fence}"
        )
    return "\n\n".join(boxes)


def leaks(page: Solutions, text: str) -> list[str]:
    """The telling lines of solutions that stand in a learner's text.

    A debug exercise shows the faulty code, so lines that its own given cells share with the
    solution are no leak.
    """
    published = {line.strip() for line in text.splitlines()}
    found = []
    for exercise in page.exercises:
        secret: set[str] = set()
        given: set[str] = set()
        for cell in exercise.cells:
            lines = cell.source.splitlines()
            hidden: set[int] = set()
            if formats.has_tag(cell, "solution"):
                hidden = set(range(len(lines)))
            elif "exercise" in cell.metadata:
                for start, end in _regions(cell.source, exercise.id):
                    hidden |= set(range(start, end + 1))
            for index, line in enumerate(lines):
                (secret if index in hidden else given).add(line.strip())
        telling = {line for line in secret if len(line.replace(" ", "")) >= _TRIVIAL}
        if exercise.kind == "debug":
            telling -= given
        found += [f"{exercise.id}: {line}" for line in sorted(telling & published)]
    return found


def generated(root: Path) -> dict[Path, str]:
    """Every file that belongs in ``exercises/`` and its text.

    Raises:
        ValueError: a page breaks the format, or a line of a solution would be given away.
    """
    files: dict[Path, str] = {}
    for path in sorted((root / "solutions").glob("[0-9][0-9]_*.md")):
        page = read_solutions(path)
        notebook = student_notebook(page)
        text = "\n".join(cell.source for cell in notebook.cells)
        if lost := leaks(page, text):
            raise ValueError(f"{path.name}: exercises/ would show a solution: " + "; ".join(lost))
        files[root / "exercises" / f"{page.stem}.md"] = formats.to_markdown(notebook)
        files[root / "exercises" / f"{page.stem}.ipynb"] = formats.to_ipynb(notebook)
    return files


def outdated(root: Path) -> list[Path]:
    """The files of ``exercises/`` that are missing, changed by hand or no longer generated."""
    files = generated(root)
    present = {p for p in (root / "exercises").glob("*") if p.suffix in (".md", ".ipynb")}
    wrong = {p for p, text in files.items() if not p.exists() or _text(p) != text}
    return sorted(wrong | (present - set(files)))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def write(root: Path, force: bool = False) -> list[Path]:
    """Bring ``exercises/`` up to date; returns what was written or removed.

    Raises:
        ValueError: a notebook there holds outputs, so somebody works in it (``force`` overrides).
    """
    files = generated(root)
    changed = outdated(root)
    for path in changed:
        if not force and path.suffix == ".ipynb" and path.exists() and _was_run(path):
            name = path.relative_to(root).as_posix()
            raise ValueError(f"{name} has been run: it may hold work. --force overwrites it.")
    for path in changed:
        if path in files:
            with atomic_write(path) as file:
                file.write(files[path])
        else:
            path.unlink()
    return changed


def _was_run(path: Path) -> bool:
    cells = nbformat.read(path, as_version=4).cells
    return any(cell.get("execution_count") or cell.get("outputs") for cell in cells)
