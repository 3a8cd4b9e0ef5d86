"""The instructor's commands: ``course release``, ``verify``, ``grade`` and ``report``.

PyTorch is imported inside the commands, as in ``cli``, which adds these to ``course``.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from course_pkg.grading.grader import Progress, Runner
    from course_pkg.grading.results import Run
    from course_pkg.grading.rules import Rules
    from course_pkg.grading.sandbox import Kind

_EVERY = 10.0  # seconds between two lines where the output is no terminal

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_root = click.option(
    "--root",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The course's repository. [default: this folder]",
)


def _report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both ``grade`` and ``report`` may write besides."""
    for option in reversed(
        (
            click.option("--late", type=_file, metavar="RULES.toml", help="Due dates, penalties."),
            click.option("--canvas", is_flag=True, help="Also canvas.csv."),
            click.option("--moodle", is_flag=True, help="Also moodle-chapter-NN.csv."),
            click.option("--nbgrader", is_flag=True, help="Also gradebook.db."),
            click.option(
                "--roster",
                type=_file,
                metavar="FILE.csv",
                help="What Canvas or Moodle exported: its students are matched.",
            ),
        )
    ):
        command = option(command)
    return command


# course release


@click.command()
@click.argument("chapters", nargs=-1, type=int, metavar="[CHAPTER]...")
@click.option("--to", required=True, type=_folder, metavar="DIR", help="The folder to make.")
@click.option("--checks", is_flag=True, help="Add the check package, without solutions.")
@click.option("--force", is_flag=True, help="Go ahead though DIR holds other or changed files.")
@_root
def release(chapters: tuple[int, ...], to: Path, checks: bool, force: bool, root: Path) -> None:
    """Make what students get: notebooks with stubs, in nbgrader's format.

    CHAPTER is a number such as 3; without it, all chapters. Nothing is written if a line of a
    solution would be given away.
    """
    from course_pkg.grading.release import release as make

    files = make(root, to, chapters=chapters, with_checks=checks, force=force)
    size = sum(file.stat().st_size for file in files)
    click.echo(f"{to}: {len(files)} files, {size:,} bytes; no line of a solution is in them")


# course verify


@click.command()
@click.argument(
    "solutions",
    default="solutions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--chapter", "chapters", multiple=True, type=int, metavar="N", help="Only this one.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=int, help="Of the inputs. [default: another one each time]")
def verify(solutions: Path, chapters: tuple[int, ...], jobs: int, seed: int | None) -> None:
    """Grade the course's own answers: each solution in full, each stub with nothing.

    They run in the sandbox that students' answers run in. The exit code is 1 if one is wrong.
    """
    from course_pkg.grading import grader, sandbox

    kind = sandbox.find()
    click.echo(_described(kind))
    found: list[Any] = []
    with _bar("exercises") as update, _broken_in_words():

        def show(verified: Any, total: int) -> None:
            found.append(verified)
            update(len(found), total, verified.exercise_id)

        grader.verify(solutions, chapters=chapters, jobs=jobs, kind=kind, seed=seed, on_result=show)
    wrong = [verified for verified in found if verified.problem]
    for verified in wrong:
        click.echo(f"{verified.exercise_id}: {verified.problem}")
        result = verified.solution
        told = [result.problem, *(f.message for f in result.findings if not f.holds)]
        for line in "\n".join(text for text in told if text).splitlines():
            click.echo(f"  {line}")
    right = len(found) - len(wrong)
    click.echo(f"{right} of {len(found)} exercises: the solution earns all points, the stub none")
    raise click.exceptions.Exit(1 if wrong else 0)


# course grade


@click.command()
@click.argument("submissions", required=False, type=_folder)
@click.option("--out", type=_folder, metavar="DIR", help="The folder of the grades.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--student", "students", multiple=True, metavar="ID", help="Only this one.")
@click.option("--chapter", "chapters", multiple=True, type=int, metavar="N", help="Only this one.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--seed", type=int, help="Of the hidden inputs. [default: another one each time]")
@click.option("--hidden", type=_folder, metavar="DIR", help="Your own further cases.")
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.option("--cell-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.option("--unsafe", is_flag=True, help="Without a sandbox: the code can do what you can.")
@click.option("--executor", type=click.Choice(["local", "dask"]), default="local")
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask cluster.")
@click.option("--jplag", is_flag=True, help="Also a folder for JPlag.")
@click.option("--diff", nargs=2, type=_folder, metavar="OLD NEW", help="Compare two runs.")
@_report_options
@_root
def grade(
    submissions: Path | None,
    out: Path | None,
    jobs: int,
    students: tuple[str, ...],
    chapters: tuple[int, ...],
    resume: bool,
    seed: int | None,
    hidden: Path | None,
    time_limit: float | None,
    cell_limit: float | None,
    unsafe: bool,
    executor: str,
    scheduler: str | None,
    jplag: bool,
    diff: tuple[Path, Path] | None,
    late: Path | None,
    canvas: bool,
    moodle: bool,
    nbgrader: bool,
    roster: Path | None,
    root: Path,
) -> None:
    """Grade what a class handed in, in a sandbox, into grades and feedback.

    SUBMISSIONS is a folder: notebooks, a folder for each student, or the zips that Moodle and
    Canvas export. Ctrl-C stops; --resume goes on. `course grade --diff OLD NEW` says whose grade
    changed, and why.
    """
    if diff is not None:
        from course_pkg.grading import reports

        click.echo(reports.diff_text(reports.diff(*diff)))
        return
    if submissions is None or out is None:
        raise ValueError("course grade takes a folder of submissions and --out DIR.")
    if (executor == "dask") != (scheduler is not None):
        raise ValueError("--executor=dask and --scheduler=ADDRESS go together.")
    _check_roster(roster, canvas, moodle)
    rules = _rules(late)
    from course_pkg.checks.engine import TIME_LIMIT
    from course_pkg.grading import exports, grader, orders, results, sandbox

    limits = {
        "time_limit": TIME_LIMIT if time_limit is None else time_limit,
        "cell_limit": orders.CELL_LIMIT if cell_limit is None else cell_limit,
    }

    def write(run: "Run", collected: Any) -> None:
        if (students or chapters) and (out / "grades.json").exists():
            run = results.merged(_read(out), run)  # the others keep what they have
        _write(run, out, rules, canvas, moodle, nbgrader, roster)
        if jplag:
            for line in exports.jplag(collected.submissions, out / "jplag"):
                click.echo(f"jplag: {line}")

    with contextlib.ExitStack() as stack:
        runners: list[Runner] = []
        if executor == "dask":
            if unsafe:
                raise ValueError("--unsafe is for this machine only, not for a cluster.")
            from course_pkg.grading.cluster import connect

            kind, runners = stack.enter_context(
                connect(scheduler or "", sandbox.Limits.around(**limits))
            )
        else:
            kind = sandbox.find(unsafe=unsafe)
        click.echo(_described(kind))
        stack.enter_context(_broken_in_words())
        update = stack.enter_context(_bar("exercises"))

        def show(progress: "Progress") -> None:
            counted = f"{progress.students} of {progress.of_students} students"
            update(progress.exercises, progress.of_exercises, counted)

        try:
            run = grader.grade(
                submissions,
                out,
                solutions=root / "solutions",
                jobs=jobs,
                students=students,
                chapters=chapters,
                resume=resume,
                seed=seed,
                hidden=hidden,
                kind=kind,
                runners=runners,
                on_progress=show,
                report=write,
                **limits,
            )
        except KeyboardInterrupt:
            click.echo(f"stopped; to go on, add --resume (everything so far is kept in {out})")
            raise click.exceptions.Exit(130) from None
    _tell(run, out)


# course report


@click.command()
@click.argument("grades", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_report_options
def report(
    grades: Path,
    late: Path | None,
    canvas: bool,
    moodle: bool,
    nbgrader: bool,
    roster: Path | None,
) -> None:
    """Write the reports of a graded class again: with the marks that are in manual.csv now."""
    _check_roster(roster, canvas, moodle)
    run = _read(grades)
    _write(run, grades, _rules(late), canvas, moodle, nbgrader, roster)
    _tell(run, grades)


def _read(grades: Path) -> "Run":
    """The run that a folder of grades holds."""
    import json

    from course_pkg.grading.results import Run

    path = grades / "grades.json"
    try:
        return Run.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError):
        raise ValueError(f"{path} is damaged: grade again with --resume.") from None


def _rules(path: Path | None) -> "Rules | None":
    from course_pkg.grading import rules

    return None if path is None else rules.load(path)


def _check_roster(roster: Path | None, canvas: bool, moodle: bool) -> None:
    if roster is not None and canvas == moodle:
        raise ValueError(f"--roster={roster} goes with one of --canvas and --moodle.")


def _write(
    run: "Run",
    out: Path,
    rules: "Rules | None",
    canvas: bool,
    moodle: bool,
    nbgrader: bool,
    roster: Path | None,
) -> None:
    from course_pkg.grading import exports, reports

    notes = reports.write(run, out, rules=rules)
    marks = reports.read_marks(out / "manual.csv", run)
    if canvas:
        path = out / "canvas.csv"
        notes += exports.canvas(run, path, roster=roster, rules=rules, marks=marks)
    if moodle:
        for chapter in sorted({exercise.chapter for exercise in run.exercises}):
            path = out / f"moodle-chapter-{chapter:02}.csv"
            notes += exports.moodle(
                run, path, chapter=chapter, roster=roster, rules=rules, marks=marks
            )
    if nbgrader:
        notes += exports.nbgrader(run, out / "gradebook.db", rules=rules, marks=marks)
    for note in dict.fromkeys(notes):
        click.echo(note)


def _tell(run: "Run", out: Path) -> None:
    """The run in three lines."""
    for oddity in run.oddities:
        click.echo(f"odd: {oddity}")
    passed = sum(
        result.status == "passed"
        for student in run.students
        for result in student.exercises.values()
    )
    total = len(run.students) * len(run.exercises)
    click.echo(f"{len(run.students)} students, {passed:,} of {total:,} exercises passed")
    click.echo(f"seed {run.seed}; grades in {out / 'grades.csv'}, overview in {out}/summary.html")
    if run.sandbox == "unsandboxed":
        click.echo("NOT SANDBOXED: every student's code could do what you can do here.")


def _described(kind: "Kind") -> str:
    if kind.name == "unsandboxed":
        return "WITHOUT A SANDBOX: every student's code can do what you can do here."
    parts = ["one process for each answer" if kind.warm else "one start for each answer (slow)"]
    parts.append("users of their own" if kind.uids else "the user who grades, without its rights")
    parts.append("a seccomp filter" if kind.filtered else "no seccomp filter")
    return f"sandbox: {kind.name}, {', '.join(parts)}"


@contextlib.contextmanager
def _broken_in_words() -> Iterator[None]:
    """A sandbox that ceased to work, as an error that the command line tells in a line."""
    from course_pkg.grading.sandbox import Broken

    try:
        yield
    except Broken as error:
        raise ValueError(f"{error}; what was graded so far is kept: --resume goes on.") from error


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Progress with the time that is left; a line now and then where there is no terminal."""
    if not sys.stdout.isatty():
        last = [time.monotonic()]

        def tell(done: int, total: int, detail: str) -> None:
            if time.monotonic() - last[0] >= _EVERY or done == total:
                last[0] = time.monotonic()
                click.echo(f"{done:,} of {total:,} {what}, {detail}")

        yield tell
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(what, total=None, detail="")

        def update(done: int, total: int, detail: str) -> None:
            progress.update(task, completed=done, total=total, detail=detail)

        yield update
