"""Nothing that befalls a grading run costs a result or a grade: the short form of ``faults.py``."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import threading
import time

import faults
import psutil
import pytest
import sandboxes
from faults import Failed, Grader, NotRun, Outcome, Stage, lost, whole_lines

from course_pkg.grading import grader, sandbox
from course_pkg.grading.sandbox import Broken, NotStarted, Reply, Sandbox

if sys.platform != "linux":
    pytest.skip("not run: grading needs Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A class and its undisturbed grades. Which sandbox works is found only once."""
    kind = dataclasses.asdict(sandboxes.kind())
    found = "from course_pkg.grading import sandbox\n"
    found += f"sandbox.find = lambda **_: sandbox.Kind(**{kind!r})\n"
    return Stage.make(tmp_path_factory.mktemp("faults"), start=found + faults.RUN, jobs=1)


def test_a_run_that_much_befalls_ends_as_if_nothing_had(stage):
    """A worker, a child and the grader killed, a second grader, a torn and damaged journal.

    And all the while the clock jumps.
    """
    draw = random.Random(5)
    out = stage.new()
    run = Grader(stage, out, before=faults.CLOCK)
    assert faults._kill_in(run, 2, 0.0, lambda of: faults._workers(draw, of))
    assert faults._kill_in(run, 5, 0.0, lambda of: faults._children(draw, of))
    assert run.wait_for(7)
    run.process.send_signal(signal.SIGSTOP)
    with pytest.raises(ValueError, match="another grader works in this folder"):
        in_this_process(stage, out)
    run.process.send_signal(signal.SIGCONT)
    assert run.wait_for(9)
    run.send(signal.SIGKILL)
    run.process.wait()
    assert run.left() == 0

    # Half a line at the end, and a byte of the third line: that result alone is worked out again.
    before = whole_lines(out)
    content = bytearray(b"".join(line + b"\n" for line in before) + b'12345678 {"stud')
    content[sum(map(len, before[:2])) + 40] ^= 1
    (out / faults.JOURNAL).write_bytes(content)
    Grader(stage, out, "--resume", seed=None, before=faults.CLOCK).finish()
    assert stage.compare(out, []) == Outcome()
    kept = [*before[:2], *before[3:]]
    after = whole_lines(out)
    again = after[len(before) :]
    assert [line for line in kept if line not in after] == []
    assert [faults.key(line) for line in again].count(faults.key(before[2])) == 1
    assert lost(kept, [*kept, *again]) == 0


def test_a_folder_that_cannot_be_written_stays_as_it_is(stage):
    out = stage.new()
    shutil.copytree(stage.undisturbed, out)
    before = (out / faults.JOURNAL).read_bytes()
    try:
        with faults._read_only(out) as (seen, _, _), pytest.raises(OSError, match=out.name):
            in_this_process(stage, seen)
    except NotRun as reason:
        pytest.skip(f"not run: {reason}")
    assert (out / faults.JOURNAL).read_bytes() == before


def in_this_process(stage, out):
    solutions = faults.ROOT / "solutions"
    kind = sandboxes.kind()
    grader.grade(
        stage.submissions, out, solutions=solutions, resume=True, seed=faults.SEED, kind=kind
    )


# Which fault is whose


def test_a_worker_killed_while_it_starts_costs_nobody():
    kind = sandboxes.kind()
    if not kind.warm:
        pytest.skip("not run: each order has its own start here")
    killed = []

    def kill(box):
        while box._process is None:
            time.sleep(0.001)
        killed.append(box._process.pid)
        os.kill(killed[0], signal.SIGKILL)

    with Sandbox(kind, sandboxes.SHORT) as box:
        thread = threading.Thread(target=kill, args=(box,))
        thread.start()
        assert sandboxes.ask(box, "def answer(): return 6 * 7") == 42
        thread.join()
    # Killed that early, bubblewrap may leave a process that waits for it.
    end = time.monotonic() + faults.SOON
    while members_of(killed[0]) and time.monotonic() < end:
        time.sleep(0.01)
    assert members_of(killed[0]) == []


def members_of(group):
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and not faults._dead(process):
                found.append(process)
    return found


class Box(Sandbox):
    """A sandbox that does what it is told to."""

    def __init__(self, *does):
        super().__init__(sandbox.Kind("bubblewrap"))
        self.does = list(does)

    def run(self, order):
        done = self.does.pop(0)
        if isinstance(done, Exception):
            raise done
        return done


def test_an_order_is_blamed_only_for_what_it_can_have_done(monkeypatch):
    monkeypatch.setattr(sandbox, "trial", lambda kind: None)
    good = Reply(b"an answer")
    assert grader.run_surely(Box(NotStarted("killed"), good), b"") == good
    # It never got the order: whose fault it is cannot be the order's.
    with pytest.raises(Broken, match="killed"):
        grader.run_surely(Box(NotStarted("killed"), NotStarted("killed")), b"")
    blamed = grader.run_surely(Box(NotStarted("killed"), Broken("gone")), b"")
    assert "broke the sandbox" in (blamed.ended or "")


# What the tables count


def line(student, exercise_id, text=""):
    content = {"student": student, "of": text, "result": {"exercise_id": exercise_id}}
    return b"00000000 " + json.dumps(content).encode()


def test_what_is_lost_is_counted():
    one, two, three = line("a", "x"), line("a", "y"), line("b", "x")
    assert lost([one, two], [one, two, three]) == 0
    assert lost([one, two], [one]) == 1
    assert lost([one, two], [two]) == 2  # what was first is gone, and nothing is where it was
    assert lost([one, two], [one, two, line("a", "x", "again")]) == 1
    assert lost([one, two], [one, two, line("a", "x", "again")], [("a", "x")]) == 0


def test_what_is_wrong_is_counted(stage):
    out = stage.new()
    shutil.copytree(stage.undisturbed, out)
    assert stage.compare(out, whole_lines(out)) == Outcome()
    run = json.loads((out / "grades.json").read_text())
    for student in run["students"]:
        first, second, *_ = student["exercises"].values()
        first["points"] += 1
        second["seconds"] += 1
    (out / "grades.json").write_text(json.dumps(run))
    (out / "grades.csv").write_text("")
    assert stage.compare(out, []).wrong == len(run["students"]) + 1


def test_processes_that_are_left_are_counted(stage, monkeypatch):
    monkeypatch.setattr(faults, "SOON", 0.3)
    start = "import subprocess, sys; subprocess.Popen(['sleep', '60']); sys.exit()\n"
    run = Grader(stage, stage.new(), before=start)
    run.finish()
    assert run.left() == 1
    (orphan,) = faults._marked(run._token)
    orphan.kill()


def test_a_run_that_says_something_else_is_no_success(stage):
    for before in ("print('x'); raise SystemExit(2)\n", "raise SystemExit(0)\n"):
        with pytest.raises(Failed):
            Grader(stage, stage.new(), before=before).finish(2, "x")
