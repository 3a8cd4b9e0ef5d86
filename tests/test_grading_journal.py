"""The diary of a grading run: whatever is left of it, it never says what was not written."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_pkg.grading import journal
from course_pkg.grading.journal import JOURNAL, Journal, digest
from course_pkg.grading.results import ExerciseResult, Finding

pytest.importorskip("fcntl", reason="not run: grading needs Linux")

MEMORY = Path("/dev/shm")  # where it takes no time until something is on disk
RUN = {"seed": 1, "time_limit": 10.0, "exercises": "abc"}
ANY = st.text(st.characters(), max_size=12)  # with surrogates and control characters
IDS = [f"{chapter:02}.{name}" for chapter in (2, 3) for name in ("a", "b", "c")]


# As plain data: the tests' type checks look at random items, which a strategy must not do.
facts = st.fixed_dictionaries(
    {
        "exercise_id": st.sampled_from(IDS),
        "status": st.sampled_from(["passed", "failed", "not started"]),
        "points": st.integers(0, 3),
        "max_points": st.just(3),
        "findings": st.lists(st.tuples(ANY, ANY, st.booleans(), st.none() | ANY), max_size=2),
        "problem": st.none() | ANY,
        "diagnoses": st.lists(ANY, max_size=2),
        "printed": ANY,
        "seconds": st.floats(0, 100),
    }
)
entries = st.lists(st.tuples(st.sampled_from(["ada", "bob"]), ANY, facts), max_size=8)


def made_of(entries):
    """What ``Journal.add`` takes."""
    items = []
    for student, of, found in entries:
        findings = tuple(Finding(*finding) for finding in found["findings"])
        diagnoses = tuple(found["diagnoses"])
        kept = {**found, "findings": findings, "diagnoses": diagnoses}
        items.append((student, of, ExerciseResult(**kept)))
    return items


@contextlib.contextmanager
def folder():
    """A new one for each example of a property."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def write(out, items, *, finish=False, resume=False, run=RUN):
    with Journal(out, run, resume=resume) as made:
        for item in items:
            made.add(*item)
        if finish:
            made.finish()
    return (out / JOURNAL).read_bytes()


def expected(items):
    return {(student, result.exercise_id): (of, result) for student, of, result in items}


def result(exercise_id="03.a", points=2, **changes):
    return ExerciseResult(exercise_id, "passed", points, 2, **changes)


# What is read is what was written


@given(entries, st.booleans())
def test_what_was_written_is_read(items, finish):
    items = made_of(items)
    with folder() as out:
        content = write(out, items, finish=finish)
        run, found, done, size = journal.read(out / JOURNAL)
    assert (run, found, done, size) == (RUN, expected(items), finish, len(content))


@given(entries, st.data())
def test_any_beginning_of_the_bytes_reads_to_a_beginning_of_the_results(items, data):
    items = made_of(items)
    with folder() as out:
        content = write(out, items, finish=True)
        cut = data.draw(st.integers(0, len(content)))
        (out / JOURNAL).write_bytes(content[:cut])
        run, found, done, size = journal.read(out / JOURNAL)
        lines = content[:cut].count(b"\n")
        assert run == (RUN if lines else None)
        assert found == expected(items[: max(lines - 1, 0)])
        assert done == (lines == len(items) + 2)
        assert content[:size] == b"".join(content.splitlines(keepends=True)[:lines])

        # What is missing is added behind what is whole, and all is as if nothing had happened.
        kept = max(lines - 1, 0)
        assert write(out, items[kept:], finish=True, resume=True).startswith(content[:size])
        assert journal.read(out / JOURNAL)[:3] == (RUN, expected(items), True)


def written(items):
    """What may be found: each result that was ever written, under its own name."""
    return {(student, of, json.dumps(item.to_dict())) for student, of, item in items}


def read_as_written(found):
    return {(student, of, json.dumps(item.to_dict())) for (student, _), (of, item) in found.items()}


def distinct(items):
    """The last entry of each student and exercise."""
    return [(student, of, item) for (student, _), (of, item) in expected(items).items()]


@given(entries.filter(bool), st.data())
def test_a_flipped_byte_never_gives_a_result_that_was_not_written(items, data):
    items = distinct(made_of(items))
    with folder() as out:
        content = bytearray(write(out, items, finish=True))
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        (out / JOURNAL).write_bytes(content)
        run, found, _, _ = journal.read(out / JOURNAL)
    assert run in (RUN, None)
    assert read_as_written(found) <= written(items)
    # It costs its own line; and that of a line's end the next one too.
    assert len(found) >= len(items) - 2


@settings(max_examples=60)
@given(entries.filter(bool), st.randoms(use_true_random=False))
def test_much_damage_never_gives_a_result_that_was_not_written(items, draw):
    items = made_of(items)
    with folder() as out:
        content = bytearray(write(out, items))
        for _ in range(draw.randint(1, 20)):
            match draw.randrange(3):
                case 0:
                    content[draw.randrange(len(content))] = draw.randrange(256)
                case 1:
                    start = draw.randrange(len(content))
                    del content[start : start + draw.randint(1, 50)]
                case 2:
                    start = draw.randrange(len(content) + 1)
                    content[start:start] = content[: draw.randint(1, 80)]
            content = content or bytearray(b"\n")
        (out / JOURNAL).write_bytes(content)
        run, found, _, _ = journal.read(out / JOURNAL)
    assert run in (RUN, None)
    assert read_as_written(found) <= written(items)


def test_no_file_is_an_empty_journal(tmp_path):
    assert journal.read(tmp_path / JOURNAL) == (None, {}, False, 0)


# Going on


def test_a_run_that_was_interrupted_is_gone_on_with_only_when_asked(tmp_path):
    before = write(tmp_path, [("ada", "x", result())])
    with pytest.raises(ValueError, match="was interrupted: --resume"):
        Journal(tmp_path, RUN, resume=False)
    assert (tmp_path / JOURNAL).read_bytes() == before
    with Journal(tmp_path, RUN, resume=True) as made:
        assert made.known("ada", "03.a", "x") == result()
        assert made.known("ada", "03.a", "y") is None  # something else was handed in
        assert made.known("bob", "03.a", "x") is None
        made.add("ada", "y", result(points=0))
        assert made.known("ada", "03.a", "y") == result(points=0)
        made.finish()
    _, found, done, _ = journal.read(tmp_path / JOURNAL)
    assert done
    assert found == {("ada", "03.a"): ("y", result(points=0))}


def test_a_finished_run_is_begun_anew_or_gone_on_with(tmp_path):
    write(tmp_path, [("ada", "x", result())], finish=True)
    with Journal(tmp_path, RUN, resume=True) as made:
        assert made.known("ada", "03.a", "x") == result()
        made.add("bob", "x", result())
    assert journal.read(tmp_path / JOURNAL)[2] is False  # it has begun again
    write(tmp_path, [], finish=True, resume=True)
    with Journal(tmp_path, {**RUN, "seed": 2}, resume=False) as made:
        assert made.known("ada", "03.a", "x") is None
    assert journal.read(tmp_path / JOURNAL)[:2] == ({**RUN, "seed": 2}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [({"seed": 2}, "seed differs"), ({"seed": 2, "exercises": "x"}, "seed, exercises differs")],
)
def test_another_run_is_not_mixed_in(tmp_path, change, said):
    before = write(tmp_path, [("ada", "x", result())])
    with pytest.raises(ValueError, match=said):
        Journal(tmp_path, {**RUN, **change}, resume=True)
    assert (tmp_path / JOURNAL).read_bytes() == before
    write(tmp_path, [], resume=True)  # the lock was given back


@pytest.mark.parametrize("resume", [True, False])
def test_results_of_nobody_knows_which_run_are_neither_used_nor_thrown_away(tmp_path, resume):
    content = write(tmp_path, [("ada", "x", result())], finish=True)
    damaged = b"0" * 8 + content[8:]
    (tmp_path / JOURNAL).write_bytes(damaged)
    with pytest.raises(ValueError, match="is damaged"):
        Journal(tmp_path, RUN, resume=resume)
    assert (tmp_path / JOURNAL).read_bytes() == damaged


def test_a_first_line_that_was_never_whole_is_no_run(tmp_path):
    content = write(tmp_path, [])
    for cut in range(len(content)):
        (tmp_path / JOURNAL).write_bytes(content[:cut])
        assert write(tmp_path, [], resume=cut % 2 == 0) == content


# On disk, or said that it is not


def test_a_result_is_on_disk_before_it_counts(tmp_path, monkeypatch):
    synced = []

    def sync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path, (tmp_path / JOURNAL).read_bytes()))

    monkeypatch.setattr(os, "fsync", sync)
    with Journal(tmp_path, RUN, resume=False) as made:
        for name in IDS:
            made.add("ada", "x", result(name))
            path, content = synced[-1]
            assert path == (tmp_path / JOURNAL).resolve()
            assert content.endswith(b"\n")
            assert f'"{name}"'.encode() in content.splitlines()[-1]
    assert len(synced) == 1 + len(IDS)


# A limit on a file's size is what a full disk is, for one process. The lock must be free after it.
FULL = """
import resource, sys
from pathlib import Path
from course_pkg.grading.journal import Journal
from course_pkg.grading.results import ExerciseResult
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
said = None
try:
    with Journal(Path(sys.argv[1]), {"seed": 1}, resume=False) as journal:
        for number in range(1000):
            journal.add(f"student{number}", "x", ExerciseResult("03.a", "passed", 2, 2))
except OSError as error:
    said = error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(type(said).__name__, number, Path(said.filename).name)
with Journal(Path(sys.argv[1]), {"seed": 1}, resume=True):
    pass
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_full_disk_costs_the_last_line(tmp_path, seed):
    size = random.Random(seed).randint(400, 20_000)
    done = run_python(FULL, tmp_path, size)
    assert done.returncode == 0, done.stderr
    kind, number, name = done.stdout.split()
    assert (kind, name) == ("OSError", JOURNAL)
    run, found, finished, whole = journal.read(tmp_path / JOURNAL)
    assert (run, finished) == ({"seed": 1}, False)
    assert [student for student, _ in found] == [f"student{n}" for n in range(int(number))]
    assert whole == (tmp_path / JOURNAL).stat().st_size <= size


def run_python(text, *arguments):
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


# One grader at a time


def test_a_second_grader_is_refused_until_the_first_is_done(tmp_path):
    with Journal(tmp_path, RUN, resume=False) as made:
        made.add("ada", "x", result())
        before = (tmp_path / JOURNAL).read_bytes()
        for resume in (True, False):
            with pytest.raises(ValueError, match="another grader works in this folder"):
                Journal(tmp_path, RUN, resume=resume)
        assert (tmp_path / JOURNAL).read_bytes() == before
        made.finish()
    write(tmp_path, [], resume=True)


# It has the lock, says so, and stays; a child that it starts must not keep the lock for it.
HOLD = """
import subprocess, sys, time
from pathlib import Path
from course_pkg.grading.journal import Journal
try:
    with Journal(Path(sys.argv[1]), {"seed": 1}, resume=True):
        child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
        print("working", child.pid, flush=True)
        time.sleep(600)
except ValueError as error:
    print("refused", 0, flush=True)
"""


def test_of_many_at_once_one_works_and_its_end_lets_the_next(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    several = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(4)
    ]
    orphans = []
    try:
        told = [process.stdout.readline().split() for process in several]
        orphans += [int(child) for said, child in told if said == "working"]
        assert sorted(said for said, _ in told) == ["refused"] * 3 + ["working"]
        worker = several[[said for said, _ in told].index("working")]
        with pytest.raises(ValueError, match="another grader"):
            Journal(tmp_path, {"seed": 1}, resume=True)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        with Journal(tmp_path, {"seed": 1}, resume=True) as made:
            made.finish()
    finally:
        for process in several:
            process.kill()
            process.communicate()
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)


# What was graded


@given(st.lists(ANY, max_size=4), st.lists(ANY, max_size=4))
def test_a_digest_tells_texts_apart(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


@given(st.text("\0:0123456789", max_size=8), st.text("\0:0123456789", max_size=8))
def test_a_text_cannot_be_made_to_look_like_two(one, other):
    assert digest(one, other) != digest(f"{one}\0{len(other)}:{other}")
    assert digest(one, other) != digest(one + other)


def test_everything_of_a_result_is_kept(tmp_path):
    full = result(
        findings=(Finding("a", "b", False, "c"),),
        problem="p",
        diagnoses=("d",),
        misconceptions=("m",),
        hints=("h",),
        printed="out",
        oddities=("odd",),
        unsandboxed=True,
        seconds=1.5,
    )
    defaults = {f.name: f.default for f in dataclasses.fields(full)}
    assert all(getattr(full, name) != default for name, default in defaults.items())
    write(tmp_path, [("ada", "x", full)])
    assert journal.read(tmp_path / JOURNAL)[1] == {("ada", "03.a"): ("x", full)}
