"""A learner's notebook without Jupyter: its cells are run, and its answers held against the checks.

A notebook is read (``read``), its code cells are run from the first to the last in one namespace
(``answers``, in this process), and each answer is judged where the notebook checks it
(``check_notebook``, which runs everything in a process of its own). ``check(...)`` itself is never
called there: its arguments are what is taken. A cell that fails stops no other.
"""

import ast
import contextlib
import dataclasses
import keyword
import linecache
import multiprocessing
import os
import re
import signal
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

import nbformat

from course_pkg.checks.engine import (
    TIME_LIMIT,
    Exercise,
    Raised,
    Report,
    chapters,
    evaluate,
    find_exercise,
    load_chapter,
    raised_by,
)
from course_pkg.checks.limits import PATIENCE, OutOfTime, call_within

SUFFIXES = (".ipynb", ".md")
CELL_LIMIT = 60.0  # seconds for each cell
# What does not stop when it should is stopped with its process, after this many seconds more.
_GRACE = 5.0
_ANSWER_LIMIT = 2 * PATIENCE * TIME_LIMIT  # the answer, the reference and the misconceptions
_START_LIMIT = 120.0  # to import PyTorch on a busy machine

_ID = re.compile(r"\d\d\.[a-z][a-z0-9_]*")
_CODE_CELL = re.compile(r"^(`{3,}|~{3,})\{code-cell\}[^\n]*\n(.*?)^\1[`~]*[ \t]*$", re.M | re.S)
_HEADER = re.compile(r"---\n(.*?)^---\n|((?::[\w-]+:[^\n]*\n)+)", re.M | re.S)
_HEADER_ID = re.compile(r"""\bid["']?:\s*["']?(\d\d\.[a-z][a-z0-9_]*)""")
# A magic assigns (`files = !ls`), or stands alone; `f?` shows help.
_MAGIC = re.compile(r"\s*(?:[\w, ]+=\s*)?[%!]|\s*\?|.*\?\s*$")
_RUN_BY = ("%%time", "%%timeit", "%%capture", "%%prun")  # their body is plain Python
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)  # what parsing may raise


@dataclasses.dataclass(frozen=True)
class Cell:
    """A code cell; ``number`` counts the code cells from 1."""

    number: int
    source: str
    exercise_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Notebook:
    """The code cells of a file."""

    path: Path
    cells: tuple[Cell, ...]

    def cells_of(self, exercise_id: str) -> list[Cell]:
        """The cells that an exercise is answered in.

        They carry its id. Where the metadata was lost, it is the one before the first check.
        """
        marked = [cell for cell in self.cells if cell.exercise_id == exercise_id]
        if marked:
            return marked
        before: list[Cell] = []
        for cell in self.cells:
            if exercise_id in _checked(cell.source):
                return [*before, cell]
            before = [] if cell.exercise_id or _checked(cell.source) else [cell]
        return []

    @property
    def exercise_ids(self) -> tuple[str, ...]:
        """The exercises that the notebook answers or checks, in its order."""
        ids: list[str] = []
        for cell in self.cells:
            ids += [cell.exercise_id] if cell.exercise_id else []
            ids += _checked(cell.source)
        return tuple(dict.fromkeys(ids))


Status = Literal["passed", "failed", "not started", "raises", "missing"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one exercise of a notebook.

    ``raises``: there is no answer to judge, because the cell or the check's argument raised.
    ``missing``: the notebook has no cell or no check for it. ``problem`` says more in one or two
    lines, where there is more to say; the report is there where an answer was judged.
    """

    exercise_id: str
    status: Status
    points: int
    max_points: int
    title: str = ""
    report: Report | None = None
    problem: str | None = None
    hints: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of a notebook.

    ``notes`` are about cells that belong to no exercise: what they raised, and magics that were
    left out. ``problem`` is set where the notebook could not be run to its end.
    """

    path: Path
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Ran:
    """What came of a notebook's cells: answers by exercise id, errors and magics by cell number."""

    answers: dict[str, Any]
    errors: dict[int, Raised]
    magics: dict[int, list[str]]


# Reading


def read(path: Path) -> Notebook:
    """The code cells of an ``.ipynb`` file, or of a Markdown notebook in MyST's format.

    Raises:
        ValueError: the file is no notebook.
        OSError: it cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is not a notebook: its name must end in {' or '.join(SUFFIXES)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        cells = _ipynb_cells(text) if path.suffix == ".ipynb" else _markdown_cells(text)
    except OSError:
        raise
    except Exception as error:  # the file may hold anything, and nbformat looks before it checks
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        raise ValueError(f"{path} is not a notebook: {reason}") from None
    numbered = enumerate(cells, start=1)
    return Notebook(path, tuple(Cell(number, *cell) for number, cell in numbered))


def _ipynb_cells(text: str) -> list[tuple[str, str | None]]:
    with _quiet():
        notebook = nbformat.reads(text, as_version=4)
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            marked = cell.metadata.get("exercise")
            exercise_id = marked.get("id") if isinstance(marked, Mapping) else None
            found.append((cell.source, _id(exercise_id)))
    return found


def _markdown_cells(text: str) -> list[tuple[str, str | None]]:
    found = []
    for match in _CODE_CELL.finditer(text):
        body = match[2]
        header = _HEADER.match(body)
        exercise_id = None
        if header is not None:
            marked = _HEADER_ID.search(header[0])
            exercise_id = marked[1] if marked else None
            body = body[header.end() :]
        found.append((body.strip("\n"), exercise_id))
    return found


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _checked(source: str) -> list[str]:
    """The ids that a cell checks."""
    try:
        tree = parse(without_magics(source)[0])
    except _NO_PYTHON:
        return []
    return [exercise_id for node in ast.walk(tree) if (exercise_id := _check_id(node))]


def _check_id(node: ast.AST) -> str | None:
    """The id in ``check("03.split_heads", ...)``, under a module's name or not."""
    match node:
        case ast.Call(func=ast.Name("check") | ast.Attribute(attr="check")) if node.args:
            first = node.args[0]
            return _id(first.value) if isinstance(first, ast.Constant) else None
    return None


def parse(source: str) -> ast.Module:
    with _quiet():
        return ast.parse(source)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops the warnings of a reader or a compiler: of an old format, an unknown escape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def without_magics(source: str) -> tuple[str, list[str]]:
    """The source as plain Python with the same lines, and the magics that were left out.

    A line is taken for a magic only where Python cannot read it: ``%`` may also begin the second
    line of an expression.
    """
    if source.lstrip().startswith("%%"):
        magic, _, body = source.lstrip().partition("\n")
        if magic.split()[0] not in _RUN_BY:
            return "", [magic]
        plain, inner = without_magics(body)
        skipped = source[: len(source) - len(body)].count("\n")
        return "\n" * skipped + plain, [magic, *inner]
    lines = source.split("\n")
    left_out = []
    for _ in lines:
        try:
            parse("\n".join(lines))
        except SyntaxError as error:
            number = (error.lineno or 1) - 1
            line = lines[number] if number < len(lines) else ""
            if not _MAGIC.match(line):
                break
            left_out.append(line.strip())
            indent = line[: len(line) - len(line.lstrip())]
            target, equals, _ = line.partition("=")
            keeps = equals and target.strip().isidentifier()
            lines[number] = f"{target.rstrip()} = None" if keeps else f"{indent}pass"
        else:
            break
    return "\n".join(lines), left_out


# Running


def answers(path: Path, *, limit: float = CELL_LIMIT) -> dict[str, Any]:
    """The answers of a notebook by exercise id: it is run in this process, and nothing is judged.

    An exercise whose cell raised, or that the notebook does not check, has none. What the cells
    print is dropped; figures are not shown. Each cell may take ``limit`` seconds.

    Raises:
        ValueError: the file is no notebook.
        OSError: it cannot be read.
    """
    return run(read(path), limit=limit).answers


def run(
    notebook: Notebook,
    *,
    limit: float = CELL_LIMIT,
    skip: Mapping[int, str] | None = None,
    until: Sequence[str] = (),
    before_cell: Callable[[int], None] | None = None,
    on_answer: Callable[[str, Any], None] | None = None,
) -> Ran:
    """Run the cells in order in one namespace.

    Args:
        notebook: what to run.
        limit: seconds for each cell.
        skip: numbers of cells that are not run, each with the reason, which becomes its error.
        until: exercise ids; the cells after the last check of these are not run.
        before_cell: called with the number of each cell before it is run.
        on_answer: called with an exercise and its answer where the notebook checks it.
    """
    cells = notebook.cells
    if until:
        checked = (cell.number for cell in cells if set(until) & set(_checked(cell.source)))
        cells = cells[: max(checked, default=len(cells))]
    ran = Ran({}, {}, {})
    module = types.ModuleType("__main__")
    taken: list[tuple[str, Any]] = []
    vars(module).update(
        _course_check=lambda exercise_id, answer, **options: taken.append((exercise_id, answer)),
        display=lambda *values, **options: print(*values),
        get_ipython=lambda: None,
    )
    outdated: dict[str, list[Any]] = {}  # what an exercise's cell meant to define anew
    with _as_in_a_kernel(notebook.path.resolve().parent, module):
        for cell in cells:
            if before_cell is not None:
                before_cell(cell.number)
            if skip is not None and cell.number in skip:
                ran.errors[cell.number] = Raised("Stopped", skip[cell.number])
                continue
            before = [vars(module).get(name) for name in _assigned(cell.source)]
            for error in _run_cell(cell, notebook.path.name, vars(module), limit, ran.magics):
                for exercise_id, answer in taken:
                    if any(answer is old for old in outdated.get(exercise_id, ())):
                        continue
                    ran.answers[exercise_id] = answer
                    if on_answer is not None:
                        on_answer(exercise_id, answer)
                taken.clear()
                if error is not None:
                    ran.errors.setdefault(cell.number, error)
            if cell.exercise_id is not None and cell.number in ran.errors:
                old = [value for value in before if value is not None]
                outdated.setdefault(cell.exercise_id, []).extend(old)
    return ran


def _run_cell(
    cell: Cell, name: str, namespace: dict[str, Any], limit: float, magics: dict[int, list[str]]
) -> Iterator[Raised | None]:
    """Run a cell statement by statement; gives what each raised.

    A statement that raises ends the cell, except for the checks that follow in it. An import does
    not: without matplotlib, say, what the set-up cell imports after it is there all the same.
    """
    file = f"<{name}, code cell {cell.number}>"
    # The engine, and any traceback, can then show the learner's own line.
    linecache.cache[file] = (0, None, cell.source.splitlines(keepends=True), file)
    try:
        source, left_out = without_magics(cell.source)
        if left_out:
            magics[cell.number] = left_out
        with _quiet():
            codes = [
                (
                    compile(ast.Module([statement], []), file, "exec", dont_inherit=True),
                    isinstance(statement, ast.Import | ast.ImportFrom),
                    checks,
                )
                for statement, checks in _ChecksTaken().visit(parse(source))
            ]
    except _NO_PYTHON as problem:
        line = (getattr(problem, "text", None) or "").strip()
        message = getattr(problem, "msg", None) or str(problem)
        yield Raised(type(problem).__name__, message, getattr(problem, "lineno", None), line)
        return
    end = time.monotonic() + limit
    failed = False
    for code, imports, checks in codes:
        if failed and not checks:
            continue
        error = _attempt(code, namespace, max(end - time.monotonic(), 0.1), limit)
        failed |= error is not None and not imports
        yield error


class _ChecksTaken(ast.NodeTransformer):
    """Sends what is checked to ``_course_check``; gives each statement and whether it checks."""

    def visit_Module(self, node: ast.Module) -> list[tuple[ast.stmt, bool]]:
        pairs = []
        for statement in node.body:
            checks = any(_check_id(inner) is not None for inner in ast.walk(statement))
            pairs.append((ast.fix_missing_locations(self.visit(statement)), checks))
        return pairs

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if _check_id(node) is not None:
            node.func = ast.copy_location(ast.Name("_course_check", ast.Load()), node.func)
        return node


def _attempt(
    code: types.CodeType, namespace: dict[str, Any], seconds: float, limit: float
) -> Raised | None:
    try:
        call_within(seconds, lambda: exec(code, namespace), patience=1.0)
    except KeyboardInterrupt:
        raise
    except OutOfTime as error:
        message = f"still running after {limit:g} seconds"
        return dataclasses.replace(raised_by(error), message=message)
    except BaseException as error:  # a learner's cell may raise anything
        return raised_by(error)
    return None


def _assigned(source: str) -> list[str]:
    """The names that a cell defines at its top level, also where it is no valid Python."""
    pattern = r"^(?:(?:async\s+)?def|class)\s+(\w+)|^([A-Za-z_]\w*)\s*(?::[^=\n]*)?=(?!=)"
    names = (match[1] or match[2] for match in re.finditer(pattern, source, re.M))
    return [name for name in names if not keyword.iskeyword(name)]  # `else: x = 1`


@contextlib.contextmanager
def _as_in_a_kernel(folder: Path, module: types.ModuleType) -> Iterator[None]:
    """What a cell finds in Jupyter: its folder and its own ``__main__``.

    What it prints is dropped, and figures are not shown. Afterwards everything is as it was,
    settings of PyTorch that the course's cells make included.
    """
    import torch

    main, path, backend = sys.modules["__main__"], list(sys.path), os.environ.get("MPLBACKEND")
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    os.environ["MPLBACKEND"] = "agg"
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use("agg")
    sys.modules["__main__"] = module
    sys.path.insert(0, str(folder))
    try:
        with (
            contextlib.chdir(folder),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        sys.modules["__main__"], sys.path[:] = main, path
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if backend is None:
            os.environ.pop("MPLBACKEND", None)
        else:
            os.environ["MPLBACKEND"] = backend


# Checking


def check_notebook(
    path: Path,
    *,
    only: Sequence[str] = (),
    hints: int = 0,
    limit: float = CELL_LIMIT,
    on_result: Callable[[Result, int], None] | None = None,
) -> Checked:
    """Run a notebook in a process of its own and judge its answers.

    Code that ends or crashes the process, or cannot be interrupted, fails its own exercise only:
    the notebook is then run again without that cell, or without judging that answer.

    Args:
        path: the notebook.
        only: the ids of the exercises to judge; by default those of the notebook, and of the
            chapter in the file's name.
        hints: how many hints to give with what does not pass.
        limit: seconds for each cell.
        on_result: called with each result as it comes, and the number of results in all. After a
            crash a result may come again.

    Raises:
        ValueError: the file is no notebook.
        OSError: it cannot be read.
    """
    read(path)
    stopped: dict[int | str, str] = {}  # the cells and exercises that stopped the process, and how
    judged: dict[str, Result] = {}

    def keep(result: Result, total: int) -> None:
        judged[result.exercise_id] = result
        if on_result is not None:
            on_result(result, total)

    while True:
        order = _Order(path.resolve(), tuple(only), hints, limit, stopped)
        checked, culprit, how = _in_a_process(order, keep)
        if checked is not None:
            # The check of an exercise may stand in a cell that went on to stop the process.
            results = (r if r.report else judged.get(r.exercise_id, r) for r in checked.results)
            return dataclasses.replace(checked, path=path, results=tuple(results))
        if culprit is None or culprit in stopped:
            return Checked(path, (), problem=how)
        stopped[culprit] = how


@dataclasses.dataclass(frozen=True)
class _Order:
    """What the process is to do."""

    path: Path
    only: tuple[str, ...]
    hints: int
    limit: float
    stopped: Mapping[int | str, str]


def _in_a_process(
    order: _Order, on_result: Callable[[Result, int], None]
) -> tuple[Checked | None, int | str | None, str]:
    """The result; or what was being done, and how it ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(order, theirs), daemon=True)
    process.start()
    theirs.close()
    cell: int | None = None
    doing: int | str | None = None
    seconds = _START_LIMIT
    try:
        while True:
            ready = connection.wait([ours, process.sentinel], seconds)
            if ours.poll():
                try:
                    kind, content = ours.recv()
                except (EOFError, OSError):
                    return None, doing, _ending(process)
                if kind == "cell":
                    cell = doing = content
                    seconds = order.limit + _GRACE
                elif kind == "answer":
                    doing, seconds = content, _ANSWER_LIMIT
                elif kind == "result":
                    doing, seconds = cell, order.limit + _GRACE  # its cell may go on
                    on_result(*content)
                elif kind == "done":
                    return content, None, ""
                elif kind == "broken":
                    return None, None, content
            elif ready:
                return None, doing, _ending(process)
            else:
                spent = order.limit if isinstance(doing, int) else seconds
                return None, doing, f"still running after {spent:g} seconds"
    finally:
        ours.close()
        process.kill()
        process.join()


def _ending(process: Any) -> str:
    """How a process ended that should not have, in words."""
    process.join(_GRACE)
    code = process.exitcode
    if code is None:
        return "it closed the connection to the check"
    if code > 0xC0000000:  # how Windows tells of a crash
        return f"it crashed Python (status {code:#x})"
    if code >= 0:
        return f"it ended Python, with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = {"SIGSEGV": "an invalid access to memory", "SIGKILL": "too little memory, perhaps"}
    return f"it crashed Python ({name}{': ' + why[name] if name in why else ''})"


def _serve(order: _Order, pipe: connection.Connection) -> None:
    """The other process: runs the notebook and sends what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who waits
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what C code prints, too
        os.dup2(nowhere, stream)
    try:
        pipe.send(("done", _check_here(order, pipe)))
    except Exception as error:
        pipe.send(("broken", f"{type(error).__name__}: {error}"))


def _check_here(order: _Order, pipe: connection.Connection) -> Checked:
    notebook = read(order.path)
    exercises = _exercises(notebook, order.only)
    reports: dict[str, Report | str] = {}

    def judge(exercise_id: str, answer: Any) -> None:
        exercise = exercises.get(exercise_id)
        if not isinstance(exercise, Exercise):
            return
        if exercise_id in order.stopped:
            reports[exercise_id] = order.stopped[exercise_id]
        else:
            pipe.send(("answer", exercise_id))
            try:
                reports[exercise_id] = evaluate(exercise, answer)
            except Exception as error:  # a fault of the check must not cost the others
                reports[exercise_id] = f"{type(error).__name__}: {error}"
        result = _result(exercise, notebook, reports[exercise_id], {}, order.hints)
        pipe.send(("result", (result, len(exercises))))

    skip = {key: how for key, how in order.stopped.items() if isinstance(key, int)}
    ran = run(
        notebook,
        limit=order.limit,
        skip=skip,
        until=order.only,
        before_cell=lambda number: pipe.send(("cell", number)),
        on_answer=judge,
    )
    results = [
        Result(exercise_id, "raises", 0, 0, problem=exercise)
        if isinstance(exercise, str)
        else _result(exercise, notebook, reports.get(exercise_id), ran.errors, order.hints)
        for exercise_id, exercise in exercises.items()
    ]
    return Checked(order.path, tuple(results), tuple(_notes(notebook, ran)))


def _exercises(notebook: Notebook, only: tuple[str, ...]) -> dict[str, Exercise | str]:
    """What to report on by id: the chapter of the file's name first; why, where an id is unknown.

    Only the chapters that it needs are loaded.
    """
    ids = list(only or notebook.exercise_ids)
    chapter = f"ch{notebook.path.name[:2]}"
    named = re.match(r"\d\d[_-]", notebook.path.name) is not None and chapter in chapters()
    if named and not only:
        ids = [exercise.id for exercise in load_chapter(chapter)] + ids
    found: dict[str, Exercise | str] = {}
    for exercise_id in ids:
        try:
            found[exercise_id] = find_exercise(exercise_id)
        except ValueError as error:
            found[exercise_id] = str(error)
    return found


def _result(
    exercise: Exercise,
    notebook: Notebook,
    report: Report | str | None,
    errors: Mapping[int, Raised],
    hints: int,
) -> Result:
    """What came of an exercise; ``report`` is a text where judging it stopped the process."""
    cells = notebook.cells_of(exercise.id)
    error = next((errors[c.number] for c in cells if c.number in errors), None)
    problem = None if error is None or error.is_stub else f"its cell {_say(error)}"
    status: Status
    if isinstance(report, str):
        status, problem = "failed", f"stopped while it was checked: {report}"
        report = None
    elif report is not None:
        status = report.status
        if status == "not started" and problem is not None:
            status = "raises"
    elif not cells:
        status = "missing"
    elif error is not None:
        status = "raises" if problem else "not started"
    else:
        status, problem = _without_report(exercise, notebook, cells, errors)
    return Result(
        exercise.id,
        status,
        exercise.points if status == "passed" else 0,
        exercise.points,
        exercise.title,
        report,
        problem,
        exercise.hints[:hints] if status != "passed" else (),
    )


def _without_report(
    exercise: Exercise, notebook: Notebook, cells: list[Cell], errors: Mapping[int, Raised]
) -> tuple[Status, str]:
    checks = [cell for cell in notebook.cells if exercise.id in _checked(cell.source)]
    if not checks:
        names = [name for cell in cells for name in _assigned(cell.source)] or ["your_answer"]
        call = f'check("{exercise.id}", {names[-1]})'
        return "missing", f"its check is gone: add a cell with {call}"
    for cell in checks:
        if cell.number in errors:
            return "raises", f"its check {_say(errors[cell.number])}"
    return "missing", "its check was not reached"


def _say(error: Raised) -> str:
    """What a cell did, after "its cell"."""
    if error.type_name in ("Stopped", OutOfTime.__name__):
        text = f"was stopped: {error.message}"
    else:
        text = f"raises {error.type_name}: {error.message}".removesuffix(": ")
    if error.line_number is None:
        return text
    line = f": {error.line}" if error.line else ""
    return f"{text}\nline {error.line_number}{line}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _notes(notebook: Notebook, ran: Ran) -> Iterator[str]:
    own = {cell for i in notebook.exercise_ids for cell in notebook.cells_of(i)}
    for cell in notebook.cells:
        first = next(iter(cell.source.strip().splitlines()), "")[:40]
        if cell.number in ran.errors and cell not in own and not _checked(cell.source):
            where = f"code cell {cell.number} ({first})"
            yield f"{where} {_one_line(_say(ran.errors[cell.number]))}"
        for magic in ran.magics.get(cell.number, []):
            yield f"code cell {cell.number}: {magic[:40]} is for Jupyter and was left out"
