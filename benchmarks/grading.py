"""What grading a class costs: how it grows with the class, and beside nbgrader's autograde.

    .venv/bin/python benchmarks/grading.py load                # 25, 50, 100 and 200 students
    .venv/bin/python benchmarks/grading.py load 3 6            # other sizes
    .venv/bin/python benchmarks/grading.py nbgrader            # the same 30 notebooks through both

The classes are made up (``tests/class_of.py``): right answers, wrong ones, broken ones and stubs.
``load`` grades each with ``course grade`` in a process of its own. ``nbgrader`` gives a chapter's
notebooks to ``nbgrader autograde``, which runs ``check(...)`` in a kernel with no isolation, and
to ``course grade``, by turns.

Memory is counted so that pages which processes share count once (Linux's PSS), where it may be
read; processor time includes that of the sandboxes. What is measured is kept as soon as it is
there, in ``book/data/grading.json`` or in ``--out``; ``load`` measures a size only once, with
``--again`` anew.
"""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import torch

from course_pkg.files import atomic_write
from course_pkg.grading import sandbox

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import class_of  # noqa: E402

RESULT = ROOT / "book" / "data" / "grading.json"
SIZES = (25, 50, 100, 200)
SEED = 20260301
EVERY = 0.5  # seconds between two looks at the processes
COURSE = "from course_pkg.cli import main; main()"
NBGRADER = "from nbgrader.apps.nbgraderapp import main; main()"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "COURSE_PROGRESS": "0",
    # nbgrader starts alembic by its name.
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a command took, its children included.

    Attributes:
        seconds: by the clock.
        cpu: processor time of the command itself and of what it waited for, in seconds.
        cpu_inside: that of its sandboxes.
        peak: the most memory that the command itself held, in MB.
        peak_inside: the most that all its children held together, in MB.
    """

    seconds: float
    cpu: float
    cpu_inside: float
    peak: float
    peak_inside: float


class Watch:
    """Looks at the processes below one, until it ends.

    A sandbox is killed when it is done, and with it goes the account of what ran inside: the last
    look, at most ``EVERY`` seconds before, is what counts.
    """

    def __init__(self, number: int) -> None:
        self._root = psutil.Process(number)
        self._inside: dict[tuple[int, float], float] = {}
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again, daemon=True)
        self._thread.start()

    @property
    def cpu(self) -> float:
        return sum(self._inside.values())

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look_again(self) -> None:
        while not self._ended.wait(EVERY):
            with contextlib.suppress(psutil.Error):
                self._look()

    def _look(self) -> None:
        memory = 0.0
        for process in self._root.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                memory += _memory(process)
                parent = process.parent()
                # What an order used is in the account of the process that forked for it.
                if parent is not None and _in_sandbox(process) and not _in_sandbox(parent):
                    self._inside[process.pid, process.create_time()] = sum(process.cpu_times()[:4])
        self.peak = max(self.peak, memory)


def _in_sandbox(process: psutil.Process) -> bool:
    """Whether it is the guest; bubblewrap, which starts it, has the same words behind its own."""
    program, *words = process.cmdline() or [""]
    return "python" in program and any(word.endswith("guest.py") for word in words)


def _memory(process: psutil.Process) -> float:
    """In MB."""
    try:
        return process.memory_full_info().pss / 2**20
    except psutil.AccessDenied:
        return process.memory_info().rss / 2**20


def cost_of(command: Sequence[str], folder: Path = ROOT) -> Cost:
    """Run a command, and say what it took.

    Raises:
        click.ClickException: it fails; with the end of what it said.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        watch = Watch(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        finally:
            watch.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode != 0:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            raise click.ClickException(f"{command[3:]}: exit code {process.returncode}\n{text}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu, watch.cpu, usage.ru_maxrss / 1024, watch.peak)


def course(submissions: Path, out: Path, jobs: int) -> list[str]:
    """The command that grades."""
    command = [sys.executable, "-c", COURSE, "grade", str(submissions), "--out", str(out)]
    return [*command, "--jobs", str(jobs), "--seed", str(SEED), "--root", str(ROOT)]


# What is kept


def kept(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}


def keep(out: Path, name: str, value: Any) -> None:
    """Put a value into a file beside what it holds."""
    content = {**kept(out), name: value, "machine": machine()}
    with atomic_write(out) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


# Load


def measure(students: int, chapters: Sequence[int], jobs: int) -> dict[str, Any]:
    """A row: what a class of this size costs."""
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        submissions, out = Path(name, "submissions"), Path(name, "grades")
        truth = class_of.make(submissions, students, chapters=chapters)
        cost = cost_of(course(submissions, out, jobs))
        graded = json.loads((out / "grades.json").read_text(encoding="utf-8"))
        wrong = sum(
            (truth[student["student"]][exercise] == "right") != (result["status"] == "passed")
            for student in graded["students"]
            for exercise, result in student["exercises"].items()
        )
    answers = sum(map(len, truth.values()))
    return {
        "students": students,
        "answers": answers,
        "wrong": wrong,
        "wall_seconds": round(cost.seconds, 1),
        "cpu_seconds_grader": round(cost.cpu, 1),
        "cpu_seconds_sandboxes": round(cost.cpu_inside, 1),
        "peak_mb_grader": round(cost.peak),
        "peak_mb_sandboxes": round(cost.peak_inside),
        "seconds_per_student_and_chapter": round(cost.seconds / students / len(chapters), 3),
    }


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How costs grow: 1 is in proportion to the class, 0 not at all."""
    if len(rows) < 2:
        return {}
    size = np.log([row["students"] for row in rows])
    grown = {
        "wall_seconds": [row["wall_seconds"] for row in rows],
        "cpu_seconds": [row["cpu_seconds_grader"] + row["cpu_seconds_sandboxes"] for row in rows],
        "peak_mb_grader": [row["peak_mb_grader"] for row in rows],
        "peak_mb_sandboxes": [row["peak_mb_sandboxes"] for row in rows],
    }
    return {
        name: round(float(np.polyfit(size, np.log(np.maximum(values, 1e-3)), 1)[0]), 3)
        for name, values in grown.items()
    }


def _numbers(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} must be numbers such as 2,3.") from None


_out = click.option("--out", default=RESULT, type=click.Path(dir_okay=False, path_type=Path))
_jobs = click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1))


@click.group(help=(__doc__ or "").partition("\n")[0])
def main() -> None:
    pass


@main.command()
@click.argument("sizes", nargs=-1, type=click.IntRange(min=1))
@click.option("--chapters", default="1,2,3,4,5,6", show_default=True, callback=_numbers)
@click.option("--again", is_flag=True, help="Also what is measured already.")
@_jobs
@_out
def load(
    sizes: tuple[int, ...], chapters: tuple[int, ...], again: bool, jobs: int, out: Path
) -> None:
    """Grade made-up classes of these SIZES."""
    setting = {"chapters": list(chapters), "jobs": jobs, "sandbox": sandbox.find().name}
    found = kept(out).get("load", {})
    same = {name: found.get(name) for name in setting} == setting
    rows = {row["students"]: row for row in found.get("rows", ())} if same else {}
    if again:
        rows = {students: row for students, row in rows.items() if students not in sizes}
    for students in sizes or SIZES:
        if students not in rows:
            click.echo(f"{students} students ...", err=True)
            rows[students] = measure(students, chapters, jobs)
            ordered = [rows[size] for size in sorted(rows)]
            keep(out, "load", {**setting, "rows": ordered, "growth": growth(ordered)})
        row = rows[students]
        click.echo(
            f"{students:4} students {row['wall_seconds']:8.1f} s, processor "
            f"{row['cpu_seconds_grader']:7.1f} + {row['cpu_seconds_sandboxes']:7.1f} s, memory "
            f"{row['peak_mb_grader']:5} + {row['peak_mb_sandboxes']:5} MB, "
            f"{row['seconds_per_student_and_chapter']:.3f} s a student and chapter"
        )
    told = ", ".join(f"{name} {power}" for name, power in growth(list(rows.values())).items())
    click.echo(f"grows with the power: {told}" if told else "one size: no growth to tell")


# Beside nbgrader


def hand_in(released: Path, folder: Path, students: int, chapter: int) -> dict[str, Path]:
    """The class's notebooks, as nbgrader released them: a file for each student."""
    truth = class_of.make(folder / "made", students, chapters=(chapter,))
    files = {}
    for student in truth:
        (made,) = (folder / "made" / student).glob("*.ipynb")
        answers = {
            cell["metadata"]["exercise"]["id"]: cell["source"]
            for cell in json.loads(made.read_text(encoding="utf-8"))["cells"]
            if "exercise" in cell["metadata"]
        }
        notebook = json.loads(released.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            identifier = cell["metadata"].get("exercise", {}).get("id")
            if identifier in answers:
                cell["source"] = answers[identifier]
        files[student] = folder / "handed-in" / student / released.name
        files[student].parent.mkdir(parents=True)
        files[student].write_text(json.dumps(notebook), encoding="utf-8")
    shutil.rmtree(folder / "made")
    return files


def prepare(folder: Path, files: dict[str, Path], source: Path) -> list[str]:
    """A course folder of nbgrader's with these submissions; the command that grades them."""
    place = folder / "source" / "exercises" / source.name
    place.parent.mkdir(parents=True)
    shutil.copyfile(source, place)
    nbgrader = [sys.executable, "-c", NBGRADER]
    cost_of([*nbgrader, "generate_assignment", "exercises", "--create"], folder)
    for student, file in files.items():
        submitted = folder / "submitted" / student / "exercises" / file.name
        submitted.parent.mkdir(parents=True)
        shutil.copyfile(file, submitted)
    return [*nbgrader, "autograde", "exercises", "--create", "--force"]


def both(folder: Path, students: int, chapter: int, rounds: int, jobs: int) -> dict[str, Any]:
    """Grade the same notebooks with both, by turns."""
    from course_pkg.grading.release import release

    release(ROOT, folder / "released", chapters=[chapter])
    (released,) = (folder / "released").glob("*.ipynb")
    files = hand_in(released, folder, students, chapter)
    autograde = prepare(folder / "nbgrader", files, released)
    costs: dict[str, list[Cost]] = {"nbgrader": [], "course": []}
    for number in range(1, rounds + 1):
        out = folder / f"grades-{number}"
        turns: list[tuple[str, Callable[[], Cost]]] = [
            ("nbgrader", lambda: cost_of(autograde, folder / "nbgrader")),
            ("course", lambda out=out: cost_of(course(folder / "handed-in", out, jobs))),
        ]
        for name, run in turns:
            cost = run()
            costs[name].append(cost)
            per_minute = 60 * students / cost.seconds
            click.echo(
                f"round {number}: {name:8} {cost.seconds:7.1f} s, {per_minute:6.1f} a minute"
            )
    graded = len(list((folder / "nbgrader" / "autograded").glob("*/*/*.ipynb")))
    if graded != students:
        raise click.ClickException(f"nbgrader graded {graded} of {students} notebooks.")
    seconds = {name: statistics.median(c.seconds for c in of) for name, of in costs.items()}
    processor = {
        name: statistics.median(c.cpu + c.cpu_inside for c in of) for name, of in costs.items()
    }
    return {
        "submissions": students,
        "chapter": chapter,
        "rounds": rounds,
        "jobs": jobs,
        "wall_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "cpu_seconds": {name: round(value, 1) for name, value in processor.items()},
        "per_minute": {name: round(60 * students / value, 1) for name, value in seconds.items()},
        "ratio": round(seconds["nbgrader"] / seconds["course"], 2),
        "ratio_cpu": round(processor["nbgrader"] / processor["course"], 2),
    }


@main.command()
@click.option("--students", default=30, show_default=True, type=click.IntRange(min=1))
@click.option("--chapter", default=3, show_default=True, type=click.IntRange(1, 6))
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(min=1))
@_jobs
@_out
def nbgrader(students: int, chapter: int, rounds: int, jobs: int, out: Path) -> None:
    """The same submissions through nbgrader's autograde and through course grade."""
    with tempfile.TemporaryDirectory(prefix="beside-") as name:
        result = both(Path(name), students, chapter, rounds, jobs)
    keep(out, "nbgrader", result)
    click.echo(
        f"course grade {result['per_minute']['course']} a minute, nbgrader "
        f"{result['per_minute']['nbgrader']}: {result['ratio']} times as many, with "
        f"{result['ratio_cpu']} times less processor time"
    )


if __name__ == "__main__":
    main()
