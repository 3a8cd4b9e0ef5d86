"""The journal of what a learner has done."""

import datetime
import json
import os
import sys
import types
from pathlib import Path
from typing import get_args

import pytest

from course_pkg.checks import engine, progress
from course_pkg.checks.engine import Report, evaluate, find_exercise
from course_pkg.checks.notebooks import Result, Status
from course_pkg.checks.progress import JOURNAL, read, record, record_in_notebook


def report(exercise_id, status, points=0, max_points=2):
    return Result(exercise_id, status, points, max_points)


def lines(folder):
    return (folder / JOURNAL).read_bytes().decode().splitlines()


def states(folder):
    return {exercise_id: entry.status for exercise_id, entry in read(folder).items()}


def test_a_folder_without_a_journal_is_untouched(tmp_path):
    assert read(tmp_path) == {}
    record([], tmp_path)
    record([report("03.shapes", "not started")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_read_again(tmp_path):
    record([report("03.shapes", "failed"), report("03.heads", "passed", 2)], tmp_path)
    entry = read(tmp_path)["03.heads"]
    assert (entry.status, entry.points, entry.max_points) == ("passed", 2, 2)
    moment = datetime.datetime.fromisoformat(entry.time)
    assert moment.utcoffset() == datetime.timedelta(0)
    assert states(tmp_path) == {"03.shapes": "failed", "03.heads": "passed"}


def test_only_changes_are_added_and_nothing_is_taken_away(tmp_path):
    history = ["failed", "failed", "passed", "passed", "failed", "not started", "raises"]
    kept = []
    for status in history:
        before = lines(tmp_path) if kept else []
        record([report("03.shapes", status)], tmp_path)
        assert lines(tmp_path)[: len(before)] == before
        if not kept or kept[-1] != status:
            kept.append(status)
        assert [json.loads(line)["status"] for line in lines(tmp_path)] == kept
    assert states(tmp_path) == {"03.shapes": "raises"}


def test_an_exercise_that_a_notebook_lacks_keeps_its_state(tmp_path):
    record([report("03.shapes", "passed", 2)], tmp_path)
    record([report("03.shapes", "missing")], tmp_path)
    assert states(tmp_path) == {"03.shapes": "passed"}


DAMAGED = [
    b"",
    b"garbage",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"exercise_id": "03.heads", "status": "passed"',
    b'{"exercise_id": "03.heads", "status": "done", "points": 2, "max_points": 2, "time": ""}',
    b'{"exercise_id": "03.heads", "status": "passed", "points": "2", "max_points": 2, "time": ""}',
    b'{"exercise_id": "03.heads", "status": ["passed"], "points": 2, "max_points": 2, "time": ""}',
    b'{"exercise_id": 3, "status": "passed", "points": 2, "max_points": 2, "time": ""}',
    b'{"exercise_id": "03.heads", "status": "passed", "points": 2, "max_points": 2, "time": "",'
    b' "more": 1}',
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "cut"])
def test_damaged_lines_are_passed_over_and_spoil_no_other(tmp_path, damaged, end):
    record([report("03.shapes", "passed", 2)], tmp_path)
    good = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(damaged + b"\n" + good + damaged + end)
    assert states(tmp_path) == {"03.shapes": "passed"}
    record([report("03.split_heads", "failed")], tmp_path)
    assert states(tmp_path) == {"03.shapes": "passed", "03.split_heads": "failed"}


def test_two_that_write_at_once_lose_nothing(tmp_path):
    # Both have read the journal before either writes: the file is opened for adding.
    with (tmp_path / JOURNAL).open("ab") as other:
        record([report("03.shapes", "passed", 2)], tmp_path)
        other.write((lines(tmp_path)[0].replace("03.shapes", "03.heads") + "\n").encode())
    assert states(tmp_path) == {"03.shapes": "passed", "03.heads": "passed"}


def test_a_report_of_the_engine_can_be_recorded(tmp_path):
    exercise = find_exercise("03.shapes")
    record([evaluate(exercise, exercise.reference)], tmp_path)
    assert read(tmp_path)["03.shapes"].points == exercise.points


# In a kernel


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """This process, made to look like a kernel that works in ``tmp_path``."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert engine.in_jupyter()
    return tmp_path


def test_a_kernel_records_in_its_folder(kernel):
    record_in_notebook(report("03.shapes", "passed", 2))
    assert states(kernel) == {"03.shapes": "passed"}


def test_it_can_be_turned_off(kernel, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    record_in_notebook(report("03.shapes", "passed", 2))
    assert list(kernel.iterdir()) == []


def test_outside_a_kernel_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    record_in_notebook(report("03.shapes", "passed", 2))
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_written_stops_no_check(kernel, capsys):
    (kernel / JOURNAL).mkdir()  # a folder in its place: also root cannot write it
    with pytest.raises(OSError):
        record([report("03.shapes", "passed", 2)], kernel)
    record_in_notebook(report("03.shapes", "passed", 2))
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid"), reason="permissions")
def test_a_read_only_folder_stops_no_check(kernel):
    kernel.chmod(0o500)
    try:
        record_in_notebook(report("03.shapes", "passed", 2))
    finally:
        kernel.chmod(0o700)
    if os.geteuid() != 0:
        assert list(kernel.iterdir()) == []


def test_the_states_cover_what_a_report_and_a_result_may_say():
    reports = get_args(Report.__annotations__["status"])
    assert set(reports) < set(progress.STATES)
    assert set(get_args(Status)) == {*progress.STATES, "missing"}


@pytest.mark.parametrize("kept", [True, False])
def test_a_real_kernel_keeps_a_journal_unless_it_is_turned_off(tmp_path, monkeypatch, kept):
    pages = pytest.importorskip("course_pkg.authoring.notebooks")
    formats = pytest.importorskip("course_pkg.authoring.formats")
    environment = pages._kernel_environment
    if kept:
        monkeypatch.setattr(
            pages, "_kernel_environment", lambda *a: environment(*a) | {"COURSE_PROGRESS": ""}
        )
    source = "from course_pkg import check\n"
    source += 'check("03.merge_heads", lambda x: x.transpose(1, 2).flatten(2))'
    notebook = formats.new_notebook([formats.new_cell("code", source)])
    monkeypatch.setenv("PYTHONPATH", str(Path(progress.__file__).parents[2]))
    pages.execute(notebook, tmp_path)
    assert states(tmp_path) == ({"03.merge_heads": "passed"} if kept else {})
