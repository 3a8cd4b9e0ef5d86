"""What befalls a grading run on purpose, and what it costs: a table of faults.

    .venv/bin/python tests/faults.py                            # all, 50 rounds of kill -9
    .venv/bin/python tests/faults.py --only "the grader killed" --rounds 5
    .venv/bin/python tests/faults.py --out book/data/grading.json

A small class is graded once undisturbed by ``course grade``. In each round it is graded again, and
something happens at a random point: a process is killed, the disk is full, the clock jumps. The run
is then gone on with until it is done, and compared with the undisturbed one:

- ``lost``: lines that were whole in the journal and are gone, and results that were in it and were
  worked out again although nothing about them had changed.
- ``wrong``: results that differ in anything but the seconds, and tables that differ.
- ``left``: processes that still run although their grader has ended.

A round that does not go as the grader promises (its exit code, its one line of an error) counts all
results as wrong and says why. The same ``--seed`` makes the same choices, though not at the same
instants. Where there is no sandbox nothing is run.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import class_of
import psutil

from course_pkg.files import atomic_write

ROOT = Path(__file__).parents[1]
SEED = 20260301
CHAPTER = 5  # the one that is graded fastest
CLASS = 0  # of the answers: some are right, some wrong, broken, or stubs
MARK = "COURSE_FAULTS"  # in the environment of a grader, and of bubblewrap
JOURNAL = ".journal.jsonl"
PATIENCE = 1200.0  # seconds for a run on a busy machine
SOON = 15.0  # seconds until a killed grader's sandboxes must be gone
RUN = "from course_pkg.cli import main; main()"

# Every look at the clock is a day before or after the one before, here and in the sandbox.
JUMPS = """
def _jump():
    import itertools, time
    now, by = time.time, itertools.cycle((0.0, 86400.0, -86400.0))
    time.time = lambda: now() + next(by)
_jump()
"""
CLOCK = f"""
{JUMPS}
from course_pkg.grading import orders
texts = dict(orders.base_modules())
texts["course_pkg.checks.limits"] = {JUMPS!r} + texts["course_pkg.checks.limits"]
orders.base_modules = lambda: texts
"""


class Failed(Exception):  # noqa: N818 -- it says how a round ended
    """A run did not do what the grader promises."""


class NotRun(Exception):  # noqa: N818
    """This machine does not allow a fault; the text says why."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a fault cost: see the top of this file."""

    lost: int = 0
    wrong: int = 0
    left: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.lost + other.lost, self.wrong + other.wrong, self.left + other.left)

    def __bool__(self) -> bool:
        return bool(self.lost or self.wrong or self.left)


Facts = dict[tuple[str, str], dict[str, Any]]


def facts(out: Path) -> Facts:
    """Each result of an output folder but its seconds."""
    run = json.loads((out / "grades.json").read_text(encoding="utf-8"))
    found = {}
    for student in run["students"]:
        for exercise_id, result in student["exercises"].items():
            found[student["student"], exercise_id] = {**result, "seconds": 0.0}
    return found


def whole_lines(out: Path) -> list[bytes]:
    """The lines of a journal that are there to their end."""
    try:
        return (out / JOURNAL).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def key(line: bytes) -> tuple[str, str] | None:
    """The student and the exercise of a journal's line; nothing of other lines and damaged ones."""
    try:
        content = json.loads(line.partition(b" ")[2])
        return content["student"], content["result"]["exercise_id"]
    except (ValueError, KeyError):
        return None


def lost(before: Sequence[bytes], after: Sequence[bytes], changed: Sequence[Any] = ()) -> int:
    """How many of these lines are gone, or were worked out again and had not changed."""
    pairs = zip(before, after, strict=False)
    kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    known = {key(line) for line in before} - {None} - set(changed)
    return len(before) - kept + sum(key(line) in known for line in after[len(before) :])


@dataclasses.dataclass
class Stage:
    """A class and its undisturbed grades.

    Attributes:
        folder: everything is below it.
        submissions: of the class.
        start: Python code that runs ``course``.
        jobs: of every run.
    """

    folder: Path
    submissions: Path
    start: str = RUN
    jobs: int = 2
    facts: Facts = dataclasses.field(default_factory=dict)
    table: bytes = b""
    lines: int = 0
    journal: int = 0
    reports: int = 0
    seconds: float = 0.0

    @classmethod
    def make(cls, folder: Path, students: int = 2, **options: Any) -> "Stage":
        """Write a class, and grade it undisturbed."""
        stage = cls(folder, folder / "submissions", **options)
        class_of.make(stage.submissions, students, chapters=(CHAPTER,), seed=CLASS)
        out = stage.new()
        began = time.monotonic()
        Grader(stage, out).finish()
        stage.seconds = time.monotonic() - began
        stage.facts, stage.table = facts(out), (out / "grades.csv").read_bytes()
        stage.lines = len(whole_lines(out))
        stage.journal = (out / JOURNAL).stat().st_size
        files = [path for path in out.rglob("*") if path.is_file()]
        stage.reports = sum(path.stat().st_size for path in files) - stage.journal
        shutil.copytree(out, folder / "undisturbed")
        return stage

    @property
    def undisturbed(self) -> Path:
        """The output folder of the undisturbed run; to be copied."""
        return self.folder / "undisturbed"

    def new(self) -> Path:
        """A name for another output folder."""
        return self.folder / f"out-{secrets.token_hex(6)}"

    def compare(self, out: Path, before: Sequence[bytes], left: int = 0) -> Outcome:
        """A finished output folder beside the undisturbed one."""
        found = facts(out)
        keys = found.keys() | self.facts.keys()
        wrong = sum(found.get(key) != self.facts.get(key) for key in keys)
        wrong += (out / "grades.csv").read_bytes() != self.table
        return Outcome(lost(before, whole_lines(out)), wrong, left)


class Grader:
    """``course grade`` in a process of its own."""

    def __init__(
        self,
        stage: Stage,
        out: Path,
        *options: str,
        seed: int | None = SEED,
        within: Sequence[str] = (),
        seen: Path | None = None,
        before: str = "",
        submissions: Path | None = None,
    ) -> None:
        self._out = seen or out
        self._token = secrets.token_hex(8)
        command = [*within, sys.executable, "-c", before + stage.start, "grade"]
        command += [str(submissions or stage.submissions), "--out", str(out)]
        command += ["--jobs", str(stage.jobs), "--root", str(ROOT), *options]
        command += [] if seed is None else ["--seed", str(seed)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- both end with this object
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # What a shell starts in the background ignores Ctrl-C, and so does what that starts.
        listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            command,
            preexec_fn=listening,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._errors,
            env={**os.environ, MARK: self._token, "OMP_NUM_THREADS": "1"},
        )
        self._family: list[psutil.Process] = []

    def wait_for(self, lines: int, more: float = 0.0) -> bool:
        """Until the journal has that many lines, and some seconds; whether it still works then."""
        end = time.monotonic() + PATIENCE
        while len(whole_lines(self._out)) < lines and self.process.poll() is None:
            if time.monotonic() > end:
                raise Failed(f"there are no {lines} lines after {PATIENCE:g} seconds")
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(more)
        return self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """The processes of its sandboxes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._family = self.family()
        self.process.send_signal(number)

    def finish(self, code: int = 0, said: str = "") -> str:
        """Wait until it ends.

        Raises:
            Failed: with another exit code; or what it said does not hold ``said``; or it ended with
                code 2 and more or less than one line of an error.
        """
        try:
            got = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise Failed(f"it still runs after {PATIENCE:g} seconds") from None
        texts = []
        for file in (self._said, self._errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        text = "\n".join(texts)
        if got != code or said not in text:
            raise Failed(f"exit code {got}, not {code} with {said!r}: {text[-1500:]}")
        if code == 2 and (texts[1].count("\n") != 1 or not texts[1].startswith("course: error: ")):
            raise Failed(f"not one line of an error: {texts[1][-1500:]}")
        return text

    def left(self) -> int:
        """How many of its processes still run after it has ended, and some seconds."""
        end = time.monotonic() + SOON
        while True:
            alive = [one for one in self._family if one.is_running() and not _dead(one)]
            alive += [one for one in _marked(self._token) if one not in alive]
            if not alive or time.monotonic() > end:
                return len(alive)
            time.sleep(0.05)


def _dead(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def _marked(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == token and not _dead(process):
                found.append(process)
    return found


def _go_on(stage: Stage, out: Path, **options: Any) -> None:
    Grader(stage, out, "--resume", **options).finish()


# Kills


def grader_killed(stage: Stage, draw: random.Random) -> Outcome:
    """kill -9 of ``course grade``, once or twice, then --resume."""
    out, left = stage.new(), 0
    before: list[bytes] = []
    total = Outcome()
    for options in ([], ["--resume"])[: draw.choice((1, 1, 2))]:
        grader = Grader(stage, out, *options)
        if draw.random() < 0.4:
            time.sleep(draw.uniform(0, stage.seconds))
        else:
            grader.wait_for(draw.randint(0, stage.lines), draw.uniform(0, 0.4))
        grader.send(signal.SIGKILL)
        grader.process.wait()
        left += grader.left()
        total += Outcome(lost=lost(before, whole_lines(out)))
        before = whole_lines(out)
    if before and json.loads(before[-1].partition(b" ")[2]) == {"done": True}:
        before.pop()
    _go_on(stage, out)
    return total + stage.compare(out, before, left)


def _kill_in(
    grader: Grader, lines: int, more: float, choose: Callable[[Grader], list[Any]]
) -> bool:
    """Kill one of the processes that ``choose`` gives once there is one; whether one was killed."""
    if not grader.wait_for(lines, more):
        return False
    while grader.process.poll() is None:
        for process in choose(grader)[:1]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
                return True
    return False


def _is_guest(process: psutil.Process) -> bool:
    """Whether Python runs in it; bubblewrap has the same words behind its own."""
    with contextlib.suppress(psutil.Error):
        program, *words = process.cmdline() or [""]
        return "python" in program and any(word.endswith("guest.py") for word in words)
    return False


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.ppid()
    return 0


def _workers(draw: random.Random, grader: Grader) -> list[psutil.Process]:
    """bubblewrap's two processes, and the one that forks for each order."""
    family = grader.family()
    guests = {one.pid for one in family if _is_guest(one)}
    found = [one for one in family if _parent(one) not in guests]
    draw.shuffle(found)
    return found


def _children(draw: random.Random, grader: Grader) -> list[psutil.Process]:
    """The processes of the orders that are being carried out, if there are any for a while."""
    guests = [one for one in grader.family() if _is_guest(one)]
    pids = {one.pid for one in guests}
    for _ in range(200):
        found: list[psutil.Process] = []
        for guest in guests:
            with contextlib.suppress(psutil.NoSuchProcess):
                if _parent(guest) not in pids:
                    found += guest.children(recursive=True)
        if found:
            draw.shuffle(found)
            return found
    return []


def _one_killed(
    stage: Stage, draw: random.Random, choose: Callable[[random.Random, Grader], list[Any]]
) -> Outcome:
    """One process of a sandbox is killed; the run itself goes on and notices nothing."""
    for _ in range(5):
        out = stage.new()
        grader = Grader(stage, out)
        lines, more = draw.randint(0, stage.lines * 2 // 3), draw.uniform(0, 0.3)
        if lines == 0:  # at any time before the first result: while it is tried, while it starts
            more = draw.uniform(0, stage.seconds / 2)
        killed = _kill_in(grader, lines, more, functools.partial(choose, draw))
        before = whole_lines(out)
        grader.finish()
        if killed:  # and it was not too fast
            return stage.compare(out, before, grader.left())
    raise Failed("the runs were over before anything was killed")


def worker_killed(stage: Stage, draw: random.Random) -> Outcome:
    """kill -9 of a sandbox's own process: bubblewrap, its first process, or what forks in it."""
    return _one_killed(stage, draw, _workers)


def child_killed(stage: Stage, draw: random.Random) -> Outcome:
    """kill -9 of an order's process: the one that runs a student's code, or its first process."""
    return _one_killed(stage, draw, _children)


def interrupted(stage: Stage, draw: random.Random) -> Outcome:
    """Ctrl-C, then --resume."""
    out = stage.new()
    grader = Grader(stage, out)
    if not grader.wait_for(draw.randint(1, stage.lines - 2), draw.uniform(0, 0.2)):
        raise Failed("the run was over before it was interrupted")
    grader.send(signal.SIGINT)
    grader.finish(130, "--resume")
    left, before = grader.left(), whole_lines(out)
    _go_on(stage, out, seed=None)  # the seed is the run's own
    return stage.compare(out, before, left)


# The disk


class Mounts:
    """Mounts that nobody else sees."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
            raise NotRun("only root can mount, with unshare and nsenter")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            raise NotRun("mounts of its own are not allowed here")
        self.within = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]

    def __enter__(self) -> "Mounts":
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    def mount(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self.within, "mount", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotRun(f"mount {' '.join(arguments)}: {done.stderr.strip()}")

    def seen(self, path: Path) -> Path:
        """A folder there, to be looked at from here."""
        return Path(f"/proc/{self._holder.pid}/root", *path.resolve().parts[1:])


_PAGE = 4096


def _full(stage: Stage, pages: int) -> Outcome:
    out = stage.new()
    out.mkdir()
    with Mounts() as mounts:
        mounts.mount("-t", "tmpfs", "-o", f"size={pages * _PAGE}", "none", str(out))
        seen = mounts.seen(out)
        grader = Grader(stage, out, within=mounts.within, seen=seen)
        grader.finish(2, "No space left on device")
        left, before = grader.left(), whole_lines(seen)
        mounts.mount("-o", "remount,size=64m", str(out))
        Grader(stage, out, "--resume", within=mounts.within, seen=seen).finish()
        return stage.compare(seen, before, left)


def full_in_journal(stage: Stage, draw: random.Random) -> Outcome:
    """The disk is full while results are written down."""
    return _full(stage, draw.randint(1, stage.journal // _PAGE))


def full_in_reports(stage: Stage, draw: random.Random) -> Outcome:
    """The disk is full while reports are written."""
    return _full(stage, stage.journal // _PAGE + 1 + draw.randint(1, stage.reports // _PAGE // 2))


@contextlib.contextmanager
def _read_only(out: Path) -> Iterator[tuple[Path, Sequence[str], Callable[[], None]]]:
    """A folder that cannot be written, as it is seen from here; what starts a grader for which it
    is so, and what makes it writable again."""
    if os.geteuid() != 0:
        out.chmod(0o555)
        try:
            yield out, (), lambda: out.chmod(0o755)
        finally:
            out.chmod(0o755)
        return
    with Mounts() as mounts:
        mounts.mount("--bind", str(out), str(out))
        mounts.mount("-o", "remount,bind,ro", str(out))
        mend = functools.partial(mounts.mount, "-o", "remount,bind,rw", str(out))
        yield mounts.seen(out), mounts.within, mend


def read_only(stage: Stage, draw: random.Random) -> Outcome:
    """The output folder cannot be written, at first or when the run is gone on with."""
    out = stage.new()
    out.mkdir()
    before: list[bytes] = []
    options = []
    if draw.random() < 0.5:
        grader = Grader(stage, out)
        grader.wait_for(draw.randint(1, stage.lines - 2))
        grader.send(signal.SIGKILL)
        grader.process.wait()
        before, options = whole_lines(out), ["--resume"]
    with _read_only(out) as (_, within, mend):
        grader = Grader(stage, out, *options, within=within)
        grader.finish(2, str(out))
        if whole_lines(out) != before:
            raise Failed("a folder that cannot be written has changed")
        mend()
        Grader(stage, out, *options, within=within).finish()
    return stage.compare(out, before, grader.left())


# The folder, and what is in it


def two_graders(stage: Stage, draw: random.Random) -> Outcome:
    """A second grader in the folder: refused, until the first is killed."""
    out = stage.new()
    first = Grader(stage, out)
    first.wait_for(1)
    first.process.send_signal(signal.SIGSTOP)  # it stays at work as long as is needed
    try:
        before = whole_lines(out)
        for option in ("--resume", "--canvas"):
            Grader(stage, out, option).finish(2, "another grader works in this folder")
        if whole_lines(out) != before:
            raise Failed("a refused grader has changed the journal")
        first.process.send_signal(signal.SIGCONT)
        first.wait_for(draw.randint(1, stage.lines - 2))
    finally:
        first.send(signal.SIGKILL)
        first.process.wait()
    before = whole_lines(out)
    _go_on(stage, out)  # at once: the lock has ended with its grader
    return stage.compare(out, before, first.left())


def clock(stage: Stage, draw: random.Random) -> Outcome:
    """The clock jumps by a day, back and forth; and a file is from tomorrow."""
    out, submissions = stage.new(), stage.folder / f"in-{secrets.token_hex(6)}"
    shutil.copytree(stage.submissions, submissions)
    file = draw.choice(sorted(submissions.rglob("*.ipynb")))
    os.utime(file, (time.time() + 86400,) * 2)
    Grader(stage, out, before=CLOCK, submissions=submissions).finish()
    found = facts(out)
    return Outcome(wrong=sum(found.get(key) != value for key, value in stage.facts.items()))


def _damaged(stage: Stage, draw: random.Random, change: Callable[[bytes], bytes]) -> Outcome:
    out = stage.new()
    shutil.copytree(stage.undisturbed, out)
    lines = draw.randint(1, stage.lines - 1)
    content = b"".join(line + b"\n" for line in whole_lines(out)[:lines])
    damaged = change(content)
    (out / JOURNAL).write_bytes(damaged)
    intact = set(content.split(b"\n")[:-1])
    before = [line for line in damaged.split(b"\n")[:-1] if line in intact]
    if before and b'"run"' not in before[0]:
        # Which run it was cannot be told: nothing may be mixed, nothing silently thrown away.
        for options in ([], ["--resume"]):
            Grader(stage, out, *options).finish(2, "damaged")
        if (out / JOURNAL).read_bytes() != damaged:
            raise Failed("a refused grader has changed the journal")
        return Outcome()
    _go_on(stage, out)
    after = whole_lines(out)
    known = {key(line) for line in before} - {None}
    again = [key(line) for line in after[damaged.count(b"\n") :]]
    gone = sum(line not in after for line in before) + sum(one in known for one in again)
    return Outcome(lost=gone) + dataclasses.replace(stage.compare(out, []), lost=0)


def torn(stage: Stage, draw: random.Random) -> Outcome:
    """The journal's last line is cut anywhere."""

    def cut(content: bytes) -> bytes:
        last = content.rindex(b"\n", 0, -1) + 1 if content.count(b"\n") > 1 else 0
        return content[: draw.randint(last, len(content) - 1)]

    return _damaged(stage, draw, cut)


def flipped(stage: Stage, draw: random.Random) -> Outcome:
    """A byte of the journal is another one."""

    def flip(content: bytes) -> bytes:
        place = draw.randrange(len(content))
        changed = content[place] ^ draw.randint(1, 255)
        return content[:place] + bytes([changed]) + content[place + 1 :]

    return _damaged(stage, draw, flip)


def another_run(stage: Stage, draw: random.Random) -> Outcome:
    """The folder holds the journal of a run with another seed, which was interrupted."""
    out = stage.new()
    shutil.copytree(stage.undisturbed, out)
    before = whole_lines(out)[: draw.randint(1, stage.lines - 1)]
    content = b"".join(line + b"\n" for line in before)
    (out / JOURNAL).write_bytes(content)
    Grader(stage, out, "--resume", seed=SEED + 1).finish(2, "another run: seed differs")
    Grader(stage, out, "--resume", "--cell-limit", "59").finish(2, "cell_limit differs")
    Grader(stage, out, seed=SEED + 1).finish(2, "was interrupted")
    if (out / JOURNAL).read_bytes() != content:
        raise Failed("a refused grader has changed the journal")
    _go_on(stage, out)
    return stage.compare(out, before)


def changed_meanwhile(stage: Stage, draw: random.Random) -> Outcome:
    """Two answers are handed in anew while the run is interrupted: graded, or not yet."""
    out, submissions = stage.new(), stage.folder / f"in-{secrets.token_hex(6)}"
    shutil.copytree(stage.submissions, submissions)
    grader = Grader(stage, out, submissions=submissions)
    grader.wait_for(draw.randint(3, stage.lines - 2))
    grader.send(signal.SIGKILL)
    grader.process.wait()
    before = whole_lines(out)
    graded = [found for found in map(key, before) if found is not None]
    changed = {draw.choice(graded), draw.choice(sorted(stage.facts))}
    for student, exercise_id in sorted(changed):
        _hand_in_anew(submissions / student, exercise_id, draw)
    _go_on(stage, out, submissions=submissions)
    fresh = stage.new()
    Grader(stage, fresh, submissions=submissions).finish()
    expected, found = facts(fresh), facts(out)
    # A student's other cells are lent to each answer: all of the student's are run again.
    students = {student for student, _ in changed}
    again = [one for one in graded if one[0] in students]
    wrong = sum(found.get(one) != expected.get(one) for one in expected.keys() | found.keys())
    wrong += (out / "grades.csv").read_bytes() != (fresh / "grades.csv").read_bytes()
    return Outcome(lost(before, whole_lines(out), again), wrong, grader.left())


def _hand_in_anew(folder: Path, exercise_id: str, draw: random.Random) -> None:
    """Turn a right answer into a wrong one, or the other way; or add a second cell for it."""
    (path,) = folder.glob(f"{CHAPTER:02}*.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (exercise,) = (e for e in class_of.page_of(CHAPTER).exercises if e.id == exercise_id)
    right = class_of.variant(exercise, "right")
    (cell,) = (
        cell
        for cell in notebook["cells"]
        if cell["metadata"].get("exercise", {}).get("id") == exercise_id
    )
    if draw.random() < 0.3:
        notebook["cells"].append({**cell, "id": secrets.token_hex(4)})
    elif "".join(cell["source"]) == right:
        cell["source"] = class_of.variant(exercise, "wrong")
    else:
        cell["source"] = right
    path.write_text(json.dumps(notebook), encoding="utf-8")


Fault = Callable[[Stage, random.Random], Outcome]
KILLS: dict[str, Fault] = {
    "the grader killed": grader_killed,
    "a worker killed": worker_killed,
    "a child killed": child_killed,
}
OTHERS: dict[str, Fault] = {
    "Ctrl-C": interrupted,
    "the disk full, in the journal": full_in_journal,
    "the disk full, in the reports": full_in_reports,
    "a read-only output folder": read_only,
    "two graders in one folder": two_graders,
    "a clock that jumps": clock,
    "the journal's last line torn": torn,
    "a byte of the journal flipped": flipped,
    "another run's journal": another_run,
    "answers changed before --resume": changed_meanwhile,
}
FAULTS = {**KILLS, **OTHERS}


def attempt(stage: Stage, name: str, number: int, seed: int) -> Outcome:
    """One round of a fault. What does not go as it should is said, and counts as all wrong.

    Raises:
        NotRun: this machine does not allow it.
    """
    draw = random.Random(f"{seed} {name} {number}")
    try:
        return FAULTS[name](stage, draw)
    except (Failed, OSError, ValueError) as error:
        print(f"  round {number}: {type(error).__name__}: {error}", flush=True)
        return Outcome(wrong=len(stage.facts))
    finally:
        for path in (*stage.folder.glob("out-*"), *stage.folder.glob("in-*")):
            shutil.rmtree(path, ignore_errors=True)


def rounds_of(name: str, rounds: int) -> int:
    """How many of all rounds of kill -9 a fault gets; the others get a few of their own."""
    if name not in KILLS:
        return max(1, rounds // 16)
    place = list(KILLS).index(name)
    return rounds // len(KILLS) + (place < rounds % len(KILLS))


def keep(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Put these rows into the table of a file, in place of those of the same faults."""
    content = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    by_name = {row["fault"]: row for row in [*content.get("faults", ()), *rows]}
    content["faults"] = [by_name[name] for name in FAULTS if name in by_name]
    with atomic_write(out) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="What befalls a grading run, and what it costs.")
    parser.add_argument("--rounds", type=int, default=50, help="of kill -9 in all (50)")
    parser.add_argument("--only", choices=FAULTS, action="append", help="this fault alone")
    parser.add_argument("--seed", type=int, default=1, help="of the choices (1)")
    parser.add_argument("--out", type=Path, help="a JSON file to put the table into")
    asked = parser.parse_args()
    from course_pkg.grading import sandbox

    try:
        sandbox.find()
    except ValueError as error:
        print(f"not run: no sandbox ({error})")
        return 0
    bad = False
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        stage = Stage.make(Path(name))
        print(f"undisturbed: {len(stage.facts)} results in {stage.seconds:.0f} s", flush=True)
        for fault in asked.only or FAULTS:
            total, done = Outcome(), 0
            try:
                for done in range(1, rounds_of(fault, asked.rounds) + 1):
                    outcome = attempt(stage, fault, done, asked.seed)
                    if outcome:
                        print(f"  round {done}: {outcome}", flush=True)
                    total += outcome
            except NotRun as reason:
                print(f"{fault}: not run: {reason}", flush=True)
                continue
            bad |= bool(total)
            row = {"fault": fault, "rounds": done, **dataclasses.asdict(total)}
            print(json.dumps(row), flush=True)
            if asked.out is not None and done:
                keep(asked.out, [row])
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
