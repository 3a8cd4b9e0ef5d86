"""The learner's commands: ``course check``, ``course progress`` and ``course doctor``.

PyTorch is imported inside the commands, as in ``cli``, which adds these to ``course``.
"""

import contextlib
import dataclasses
import datetime
import importlib
import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from course_pkg.checks.engine import Exercise
    from course_pkg.checks.notebooks import Checked, Result

EXERCISES = "exercises"  # the folder that is meant when none is given
_ID = re.compile(r"\d\d\.[a-z][a-z0-9_]*")
_POLL = 0.5  # seconds between two looks at the files

_MARKS = {"passed": "✓", "failed": "✗", "raises": "✗", "not started": "·", "missing": "·"}
_PLAIN_MARKS = {"passed": "+", "failed": "x", "raises": "x", "not started": ".", "missing": "."}
_STYLES = {"passed": "green", "failed": "red", "raises": "red", "not started": "dim"}


_OnResult = Callable[["Result", int], None]


@dataclasses.dataclass(frozen=True)
class _Job:
    """A notebook, and the exercises in it that are asked for; none means all."""

    path: Path
    only: tuple[str, ...] = ()


# course check


@click.command()
@click.argument("targets", nargs=-1, metavar="[PATH|ID]...")
@click.option("--hint", type=click.IntRange(min=1), metavar="N", help="Show the first N hints.")
@click.option("--watch", is_flag=True, help="Check a notebook again whenever it is saved.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long each cell may run. [default: 60]",
)
def check(
    targets: tuple[str, ...],
    hint: int | None,
    watch: bool,
    as_json: bool,
    time_limit: float | None,
) -> None:
    """Check your exercises, without opening Jupyter.

    PATH is a folder of notebooks or one notebook; without it, the folder `exercises`. ID is an
    exercise such as 03.split_heads. Each notebook runs from its first cell to its last in a process
    of its own. The exit code is 0 when nothing that you started fails, else 1.
    """
    if watch and as_json:
        raise ValueError("--watch with --json: choose one of them.")
    from course_pkg.checks import notebooks

    jobs = _jobs(targets)
    limit = notebooks.CELL_LIMIT if time_limit is None else time_limit

    def run(job: _Job, on_result: _OnResult | None = None) -> "Checked":
        try:
            return notebooks.check_notebook(
                job.path, only=job.only, hints=hint or 0, limit=limit, on_result=on_result
            )
        except (ValueError, OSError) as error:  # the others are worth checking all the same
            return notebooks.Checked(job.path, (), problem=str(error))

    try:
        if as_json:
            all_checked = [run(job) for job in jobs]
            _keep(all_checked)
            click.echo(json.dumps(_document(all_checked), indent=1))
        else:
            view = _View(detailed=any(job.only for job in jobs))
            all_checked = view.check(jobs, run)
            if watch:
                _watch(targets, view, run)
                return
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0 if watch else 130) from None
    raise click.exceptions.Exit(1 if any(map(_fails, all_checked)) else 0)


def _jobs(targets: Iterable[str]) -> list[_Job]:
    """What to run for what was typed.

    Raises:
        ValueError: an exercise is unknown, or no notebook has it; a folder has no notebook.
        FileNotFoundError: there is no such folder or file.
    """
    from course_pkg.checks import notebooks

    ids, paths = [], []
    for target in targets:
        is_id = _ID.fullmatch(target) and not Path(target).exists()
        if is_id and Path(target).suffix not in notebooks.SUFFIXES:
            ids.append(target)
        else:
            paths.append(Path(target))
    found = list(
        dict.fromkeys(path for given in paths or [_folder()] for path in notebooks_in(given))
    )
    if not ids:
        return [_Job(path) for path in found]
    return _with_exercises(found, list(dict.fromkeys(ids)))


def _with_exercises(paths: list[Path], ids: list[str]) -> list[_Job]:
    from course_pkg.checks import notebooks
    from course_pkg.checks.engine import find_exercise

    wanted: dict[Path, list[str]] = {}
    for exercise_id in ids:
        find_exercise(exercise_id)
        for path in paths:
            with contextlib.suppress(ValueError):
                if exercise_id in notebooks.read(path).exercise_ids:
                    wanted.setdefault(path, []).append(exercise_id)
        if not any(exercise_id in own for own in wanted.values()):
            where = ", ".join(sorted({str(path.parent) for path in paths}))
            raise ValueError(f"{exercise_id} is in no notebook of {where}.")
    return [_Job(path, tuple(own)) for path, own in wanted.items()]


def _folder() -> Path:
    """The folder of the exercises when none is given: here, or this one."""
    if not Path(EXERCISES).is_dir() and any(Path().glob("[0-9][0-9]_*.ipynb")):
        return Path()
    if not Path(EXERCISES).is_dir():
        raise FileNotFoundError(
            f"there is no folder {EXERCISES!r} here: say where your notebooks are, "
            "as in: course check path/to/exercises"
        )
    return Path(EXERCISES)


def notebooks_in(given: Path) -> list[Path]:
    """The notebooks that a path stands for; of a Markdown page and its .ipynb, the .ipynb."""
    from course_pkg.checks import notebooks

    if given.is_file():
        notebooks.read(given)
        return [given]
    if not given.is_dir():
        raise FileNotFoundError(f"{given}: there is no such notebook or folder.")
    found = []
    for path in sorted(given.iterdir()):
        if path.name.startswith(".") or path.suffix not in notebooks.SUFFIXES:
            continue
        if path.suffix == ".md" and path.with_suffix(".ipynb").exists():
            continue
        try:
            if notebooks.read(path).exercise_ids:
                found.append(path)
        except (ValueError, OSError):
            if path.suffix == ".ipynb":  # it is reported when it is its turn
                found.append(path)
    if not found:
        raise ValueError(f"{given} has no notebook with exercises.")
    return found


def _watch(
    targets: tuple[str, ...],
    view: "_View",
    run: Callable[..., "Checked"],
) -> None:
    """Check again what is saved, until Ctrl-C."""
    click.echo("watching for changes; Ctrl-C ends")
    checked = pending = _stamps(targets)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(_POLL)
            now = _stamps(targets)
            # A file that changed since the last look may be half written.
            settled = now == pending
            pending = now
            if not settled or now == checked:
                continue
            changed = {path for path in now if now[path] != checked.get(path)}
            checked = now
            try:
                jobs = [job for job in _jobs(targets) if job.path in changed]
            except (ValueError, OSError) as error:
                click.echo(f"course: error: {error}", err=True)
                continue
            if jobs:
                click.echo(f"\n{datetime.datetime.now():%H:%M:%S}")
                view.check(jobs, run)
    click.echo()


def _stamps(targets: tuple[str, ...]) -> dict[Path, tuple[int, int]]:
    """When each notebook that may be meant was saved, and its size."""
    paths = [Path(target) for target in targets if Path(target).exists()] or [_folder()]
    files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
    stamps = {}
    for file in files:
        with contextlib.suppress(OSError):  # it is being replaced
            if file.suffix in (".ipynb", ".md"):
                stamps[file] = (file.stat().st_mtime_ns, file.stat().st_size)
    return stamps


def _fails(checked: "Checked") -> bool:
    failing = any(result.status in ("failed", "raises") for result in checked.results)
    return failing or checked.problem is not None


def _keep(all_checked: Iterable["Checked"]) -> None:
    """Note the results in the journals beside the notebooks."""
    from course_pkg.checks import progress

    folders: dict[Path, dict[str, Result]] = {}
    for checked in all_checked:
        kept = folders.setdefault(checked.path.parent, {})
        for result in checked.results:
            if result.status in progress.STATES and result.max_points:  # one of the course
                # Of an exercise that two notebooks hold, the better one counts.
                better = max(
                    (result, kept.get(result.exercise_id, result)),
                    key=lambda one: progress.STATES.index(one.status),
                )
                kept[result.exercise_id] = better
    for folder, kept in folders.items():
        try:
            progress.record(kept.values(), folder)
        except OSError as error:
            reason = error.strerror or error
            click.echo(f"course: progress is not kept in {folder}: {reason}", err=True)


def _count(results: Iterable["Result"]) -> dict[str, int]:
    """How many there are of each kind, and their points; each exercise counts once."""
    from course_pkg.checks import progress

    order = ("missing", *progress.STATES)
    best: dict[str, Result] = {}
    for result in results:
        other = best.get(result.exercise_id, result)
        best[result.exercise_id] = max(result, other, key=lambda one: order.index(one.status))
    states = [result.status for result in best.values()]
    return {
        "passed": states.count("passed"),
        "failing": states.count("failed") + states.count("raises"),
        "not_started": states.count("not started"),
        "missing": states.count("missing"),
        "points": sum(result.points for result in best.values()),
        "max_points": sum(result.max_points for result in best.values()),
    }


def _document(all_checked: list["Checked"]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "notebooks": [
            {
                "path": checked.path.as_posix(),
                "problem": checked.problem,
                "notes": list(checked.notes),
                "exercises": [_exercise_document(result) for result in checked.results],
            }
            for checked in all_checked
        ],
        "total": _count(result for checked in all_checked for result in checked.results),
    }


def _exercise_document(result: "Result") -> dict[str, Any]:
    report = result.report
    return {
        "id": result.exercise_id,
        "title": result.title,
        "status": result.status,
        "points": result.points,
        "max_points": result.max_points,
        "problem": result.problem or (report.problem if report else None),
        "properties": [
            {"name": o.name, "statement": o.statement, "holds": o.holds, "message": o.message}
            for o in (report.outcomes if report else ())
        ],
        "diagnoses": list(report.diagnoses if report else ()),
        "hints": list(result.hints),
        "printed": report.printed if report else "",
    }


class _View:
    """Shows results as they come; ``detailed`` shows the whole report of each."""

    def __init__(self, detailed: bool) -> None:
        self._detailed = detailed
        self._marks = _marks()  # before a bar stands in the place of the output
        self._checked: dict[Path, Checked] = {}

    def check(
        self,
        jobs: list[_Job],
        run: Callable[..., "Checked"],
    ) -> list["Checked"]:
        """Run the notebooks one after the other, show each, and note what is done."""
        console = _console()
        with _live(console, [job.path.stem for job in jobs]) as update:
            for position, job in enumerate(jobs):
                seen: set[str] = set()

                def on_result(result: "Result", total: int, position=position, seen=seen) -> None:
                    seen.add(result.exercise_id)
                    update(position, len(seen), total)

                checked = run(job, on_result)
                update(position, len(checked.results), len(checked.results))
                self._checked[job.path] = checked
                self._show(console, checked)
        _keep(self._checked.values())
        _print(console, _summary(self._checked.values()), "bold")
        return list(self._checked.values())

    def _show(self, console: "Console", checked: "Checked") -> None:
        counted = _count(checked.results)
        done = f"{counted['passed']} of {len(checked.results)} passed"
        _print(console, f"{checked.path}: {checked.problem or done}", "bold")
        for note in checked.notes:
            _print(console, note, "yellow", indent=2)
        marks = self._marks
        waiting: dict[str, list[str]] = {"not started": [], "missing": []}
        for result in checked.results:
            asked = self._detailed and result.hints
            if result.status in waiting and not result.problem and not asked:
                waiting[result.status].append(result.exercise_id)
                continue
            line, *details = _told(result, self._detailed)
            style = _STYLES.get(result.status, "")
            _print(console, f"{marks[result.status]} {line}", style, indent=2)
            for text in details:
                _print(console, text, indent=4)
        for status, ids in waiting.items():
            if ids:
                _print(console, f"{marks[status]} {status}: {', '.join(ids)}", "dim", indent=2)
        console.print()


def _told(result: "Result", detailed: bool) -> Iterator[str]:
    """A result in lines; without ``detailed``, the first property that fails and the diagnoses."""
    report = result.report
    if report is None:
        first, *rest = (result.problem or result.status).splitlines()
        yield f"{result.exercise_id}: {first}"
        yield from rest
    else:
        yield report.headline
        if detailed:
            yield from report.text().splitlines()[1:]
        elif report.status == "failed":
            failing = next((o for o in report.outcomes if not o.holds), None)
            if failing is not None:
                yield f"{failing.name}: {failing.statement}"
                yield from (f"  {line}" for line in (failing.message or "").splitlines())
            if report.diagnoses:
                yield report.introduction
                yield from (f"  {diagnosis}" for diagnosis in report.diagnoses)
        yield from (result.problem or "").splitlines()
    total = len(result.hints)
    for number, hint in enumerate(result.hints, start=1):
        yield f"Hint {number}{f' of {total}' if total > 1 else ''}: {hint}"


def _summary(all_checked: Iterable["Checked"]) -> str:
    total = _count(result for checked in all_checked for result in checked.results)
    parts = [f"{total['passed']} passed", f"{total['failing']} failing"]
    parts.append(f"{total['not_started']} not started")
    if total["missing"]:
        parts.append(f"{total['missing']} missing")
    return f"{', '.join(parts)}: {total['points']} of {total['max_points']} points"


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _print(console: "Console", text: str, style: str = "", indent: int = 0, hang: int = 2) -> None:
    """One paragraph, with its further lines ``hang`` columns further in."""
    from rich.text import Text

    lead = " " * (indent + len(text) - len(text.lstrip()))
    lines = textwrap.wrap(
        text.strip(),
        max(console.width, 40),
        initial_indent=lead,
        subsequent_indent=lead + " " * hang,
        break_on_hyphens=False,
    )
    console.print(Text("\n".join(lines), style), soft_wrap=True)


def _marks() -> dict[str, str]:
    """The marks that the output can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "".join(_MARKS.values()).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return _PLAIN_MARKS
    return _MARKS


@contextlib.contextmanager
def _live(console: "Console", names: list[str]) -> Iterator[Callable[[int, int, int], None]]:
    """Gives ``update(position, done, total)``; in a terminal there is a bar for each name."""
    if not console.is_terminal:
        yield lambda position, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = [bar.add_task(name, total=None) for name in names]
        yield lambda position, done, total: bar.update(tasks[position], completed=done, total=total)


# course progress


@click.command()
@click.argument("folder", required=False)
def progress(folder: str | None) -> None:
    """Show a map of the course: what is done, failing and not started.

    FOLDER holds your notebooks; without it, the folder `exercises`. What is shown is what
    `course check`, and the checks in your notebooks, wrote to .course-progress.jsonl there.
    """
    from rich.text import Text

    from course_pkg.checks import all_exercises
    from course_pkg.checks import progress as journal

    where = _folder() if folder is None else Path(folder)
    if not where.is_dir():
        raise FileNotFoundError(f"{where}: there is no such folder.")
    entries = journal.read(where)
    exercises = all_exercises()
    states = {e.id: entries[e.id].status if e.id in entries else "not started" for e in exercises}
    chapters: dict[int, list[Exercise]] = {}
    for exercise in exercises:
        chapters.setdefault(exercise.chapter, []).append(exercise)

    console, marks = _console(), _marks()
    names = {number: f"{number}  {_chapter_title(number)}" for number in chapters} | {0: "all"}
    name_width = max(map(len, names.values()))
    bar_width = max(map(len, chapters.values()))
    for number, own in chapters.items():
        line = Text(f"{names[number]:<{name_width}}  ")
        for exercise in own:
            line.append(marks[states[exercise.id]], _STYLES[states[exercise.id]])
        line.append(" " * (bar_width - len(own)) + _tally(own, states))
        console.print(line, soft_wrap=True)
    console.print(f"\n{names[0]:<{name_width}}  {' ' * bar_width}{_tally(exercises, states)}")
    legend = [(marks["passed"], "done"), (marks["failed"], "failing"), (marks["missing"], "to do")]
    console.print(f"{'':<{name_width}}  {'   '.join(f'{mark} {word}' for mark, word in legend)}\n")

    failing = [e for e in exercises if states[e.id] in ("failed", "raises")]
    waiting = [e for e in exercises if states[e.id] == "not started"]
    if failing:
        shown = ", ".join(e.id for e in failing[:8])
        more = f" and {len(failing) - 8} more" if len(failing) > 8 else ""
        _print(console, f"failing: {shown}{more}", "red")
    if waiting:
        _print(console, f"next: {waiting[0].id}, {waiting[0].title} (section {waiting[0].section})")
    if not failing and not waiting:
        _print(console, "Every exercise is done.", "green")


def _tally(exercises: Iterable["Exercise"], states: Mapping[str, str]) -> str:
    own = list(exercises)
    done = [exercise for exercise in own if states[exercise.id] == "passed"]
    points, max_points = sum(e.points for e in done), sum(e.points for e in own)
    return f"  {len(done):>3} of {len(own):>2} done  {points:>4} of {max_points:>3} points"


def _chapter_title(number: int) -> str:
    """From the docstring of the chapter's checks."""
    doc = importlib.import_module(f"course_pkg.checks.ch{number:02}").__doc__ or ""
    match = re.match(r"Exercises of chapter \d+, (?:the )?(.+)\.", doc)
    return match[1] if match else "exercises"


# course doctor


@click.command()
@click.option("--network", is_flag=True, help="Also try to connect to where downloads come from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def doctor(network: bool, as_json: bool) -> None:
    """Look whether this machine is ready for the course, and say what mends it.

    Nothing is sent anywhere: only with --network are two connections opened, and closed again. The
    exit code is 1 when the course cannot run here, else 0.
    """
    from course_pkg import doctor as doctors

    findings = doctors.examine(doctors.gather(network))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        width = max(len(finding.name) for finding in findings)
        console = _console()
        for finding in findings:
            style = {"ok": "", "warn": "yellow", "bad": "bold red"}[finding.state]
            line = f"{finding.state:<4}  {finding.name:<{width}}  {finding.text}"
            _print(console, line, style, hang=width + 8)
            if finding.mend:
                # On a line of its own, and never broken: it is there to be copied.
                console.print(
                    f"{'':<{width + 8}}mend: {finding.mend}", style="bold", soft_wrap=True
                )
    raise click.exceptions.Exit(1 if any(f.state == "bad" for f in findings) else 0)
