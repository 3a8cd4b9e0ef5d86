"""course check and course progress."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from course_pkg import learning
from course_pkg.checks import all_exercises, notebooks, progress
from course_pkg.checks.engine import Outcome, Report
from course_pkg.checks.notebooks import Checked, Result
from course_pkg.checks.progress import JOURNAL
from course_pkg.cli import course

ROOT = Path(__file__).parent.parent
RIGHT = "def merge_heads(x):\n    return x.transpose(1, 2).flatten(2)"
WRONG = """\
def merge_heads(x):
    B, H, T, Dh = x.shape
    return x.reshape(B, T, H * Dh)"""
STUB = 'def split_heads(x, num_heads):\n    raise NotImplementedError("03.split_heads")'


def write(path, *answers):
    """A notebook of exercises: pairs of an id and the source of its cell."""
    cells = [nbformat.v4.new_code_cell("from course_pkg import check")]
    for exercise_id, source in answers:
        name = re.search(r"def (\w+)|(\w+) =", source)
        cells.append(nbformat.v4.new_code_cell(source, metadata={"exercise": {"id": exercise_id}}))
        cells.append(nbformat.v4.new_code_cell(f'check("{exercise_id}", {name[1] or name[2]})'))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def invoke(*arguments):
    return CliRunner().invoke(course, [str(argument) for argument in arguments])


def refuse(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("course: error: "), result.stderr
    return lines[0].removeprefix("course: error: ")


def states(folder):
    return {exercise_id: entry.status for exercise_id, entry in progress.read(folder).items()}


# With real processes


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The command in a terminal of its own, on a folder with a right and a wrong notebook."""
    folder = tmp_path_factory.mktemp("mine") / "exercises"
    folder.mkdir()
    write(folder / "03_mine.ipynb", ("03.merge_heads", WRONG), ("03.split_heads", STUB))
    write(folder / "more.ipynb", ("02.softmax", "softmax = lambda scores: scores.softmax(-1)"))
    (folder / "ended.ipynb").write_text(
        (folder / "more.ipynb")
        .read_text()
        .replace("from course_pkg import check", "import os; os._exit(7)")
    )
    (folder / "damaged.ipynb").write_text('{"cells": [')
    (folder / "README.md").write_text("# Read me\n")
    done = subprocess.run(
        [sys.executable, "-m", "course_pkg.cli", "check", "--json"],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder.parent,
        check=False,
    )
    return folder, done


def test_one_document_is_printed_and_nothing_else(real):
    _, done = real
    assert done.returncode == 1 and done.stderr == ""
    document = json.loads(done.stdout)
    assert set(document) == {"notebooks", "total"}
    by_name = {Path(n["path"]).name: n for n in document["notebooks"]}
    assert list(by_name) == ["03_mine.ipynb", "damaged.ipynb", "ended.ipynb", "more.ipynb"]
    assert "is not a notebook" in by_name["damaged.ipynb"]["problem"]
    assert "exit code 7" in by_name["ended.ipynb"]["notes"][0]
    found = {e["id"]: e for n in document["notebooks"] for e in n["exercises"]}
    assert found["03.merge_heads"]["status"] == "failed"
    assert found["03.merge_heads"]["diagnoses"]
    failing = [p for p in found["03.merge_heads"]["properties"] if not p["holds"]]
    assert failing and all(p["statement"] for p in failing) and failing[0]["message"]
    assert found["03.split_heads"]["status"] == "not started"
    assert found["02.softmax"]["status"] == "passed" and found["02.softmax"]["points"] > 0
    assert document["total"]["passed"] == 1 and document["total"]["failing"] == 1
    assert document["total"]["points"] == found["02.softmax"]["max_points"]


def test_what_was_found_is_in_the_journal(real):
    folder, _ = real
    assert states(folder) == {"03.merge_heads": "failed", "02.softmax": "passed"}


def test_a_folder_in_which_all_that_was_started_passes(tmp_path):
    write(tmp_path / "mine.ipynb", ("03.merge_heads", RIGHT), ("03.split_heads", STUB))
    result = invoke("check", tmp_path)
    assert result.exit_code == 0, result.output
    assert "✓ 03.merge_heads" in result.stdout and "not started: 03.split_heads" in result.stdout
    assert "1 passed, 0 failing, 1 not started" in result.stdout.splitlines()[-1]


# With processes that only seem to run


OUTCOMES = (
    Outcome("values", "The heads are side by side.", None),
    Outcome("tokens", "A token stays a token.", "at [0, 1]: got 3, expected 4\non x"),
)
RESULTS = {
    "passed": Result(
        "03.merge_heads", "passed", 2, 2, "Merge", Report("03.merge_heads", "passed", 2, 2)
    ),
    "failed": Result(
        "03.merge_heads",
        "failed",
        0,
        2,
        "Merge",
        Report("03.merge_heads", "failed", 0, 2, OUTCOMES, diagnoses=("a view. It mixes.",)),
        hints=("Look at the strides.",),
    ),
    "raises": Result("03.merge_heads", "raises", 0, 2, problem="its cell raises X: y\nline 3: z"),
    "not started": Result("03.merge_heads", "not started", 0, 2, hints=("Look at the strides.",)),
    "missing": Result("03.merge_heads", "missing", 0, 2),
}


@pytest.fixture
def pretend(monkeypatch):
    """``pretend(status, ...)``: the next notebooks come out like that; gives what was asked."""
    asked = []

    def start(*given):
        queue = list(given)

        def check_notebook(path, *, only, hints, limit, on_result):
            asked.append((path.name, only, hints, limit))
            notebooks.read(path)
            outcome = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(outcome, BaseException):
                raise outcome
            if on_result is not None:
                on_result(RESULTS[outcome], 1)
            return Checked(path, (RESULTS[outcome],), ("code cell 1: %x was left out",))

        monkeypatch.setattr(notebooks, "check_notebook", check_notebook)
        return asked

    return start


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder ``exercises`` with one notebook; the tests work in its parent."""
    (tmp_path / "exercises").mkdir()
    write(tmp_path / "exercises" / "03_mine.ipynb", ("03.merge_heads", RIGHT))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "exercises"


@pytest.mark.parametrize("status", RESULTS)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_is_1_if_something_that_was_started_fails(pretend, folder, status, as_json):
    pretend(status)
    result = invoke("check", *(["--json"] if as_json else []))
    assert result.exit_code == (1 if status in ("failed", "raises") else 0)
    if as_json:
        exercise = json.loads(result.stdout)["notebooks"][0]["exercises"][0]
        assert exercise["status"] == status
    recorded = {} if status in ("not started", "missing") else {"03.merge_heads": status}
    assert states(folder) == recorded


def test_what_fails_is_told_with_its_first_property_and_its_diagnosis(pretend, folder):
    pretend("failed")
    shown = invoke("check").stdout
    assert "✗ 03.merge_heads: 1 of 2 properties hold" in shown
    assert "tokens: A token stays a token." in shown and "got 3, expected 4" in shown
    assert "a view. It mixes." in shown and "The heads are side by side" not in shown
    assert "%x was left out" in shown and "0 passed, 1 failing, 0 not started" in shown
    assert "Hint 1: Look at the strides." in shown
    assert "\x1b" not in shown  # no colours where it is piped


def test_of_one_exercise_the_whole_report_is_shown(pretend, folder):
    asked = pretend("failed")
    shown = invoke("check", "03.merge_heads", "--hint", "2", "--time-limit", "7").stdout
    assert asked == [("03_mine.ipynb", ("03.merge_heads",), 2, 7.0)]
    assert "✓ values: The heads are side by side." in shown
    assert "✗ tokens: A token stays a token." in shown


def test_a_hint_can_be_had_before_one_starts(pretend, folder):
    pretend("not started")
    assert "strides" in invoke("check", "03.merge_heads", "--hint", "1").stdout
    assert "strides" not in invoke("check").stdout


def test_the_lines_fit_a_terminal(pretend, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for status in RESULTS:
        pretend(status)
        assert max(map(len, invoke("check").stdout.splitlines())) <= 60


def test_a_notebook_that_breaks_stops_no_other(pretend, folder):
    write(folder / "04_other.ipynb", ("04.gelu", "def gelu(x): return x"))
    pretend(ValueError("03_mine.ipynb is not a notebook"), "passed")
    result = invoke("check")
    assert result.exit_code == 1
    assert (
        "03_mine.ipynb is not a notebook" in result.stdout and "✓ 03.merge_heads" in result.stdout
    )


def test_of_two_notebooks_with_an_exercise_the_better_counts(pretend, folder):
    write(folder / "03_mine-Copy1.ipynb", ("03.merge_heads", WRONG))
    for order in (("passed", "failed"), ("failed", "passed")):
        pretend(*order)
        result = invoke("check")
        assert "1 passed, 0 failing, 0 not started: 2 of 2 points" in result.stdout
        assert states(folder) == {"03.merge_heads": "passed"}
        assert result.exit_code == 1


def test_a_journal_that_cannot_be_written_is_told_and_no_more(pretend, folder):
    (folder / JOURNAL).mkdir()
    pretend("passed")
    result = invoke("check", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)
    assert len(result.stderr.splitlines()) == 1 and "progress is not kept" in result.stderr


def test_ctrl_c_ends_without_a_verdict(pretend, folder):
    pretend(KeyboardInterrupt())
    result = invoke("check")
    assert result.exit_code == 130 and "Traceback" not in result.output


# What is meant


def test_the_folder_is_found_from_within(pretend, folder, monkeypatch):
    asked = pretend("passed")
    monkeypatch.chdir(folder)
    invoke("check")
    assert [name for name, *_ in asked] == ["03_mine.ipynb"]


def test_of_a_page_in_both_forms_the_ipynb_is_run(pretend, folder):
    page = '```{code-cell}\ncheck("04.gelu", 1)\n```\n'
    (folder / "03_mine.md").write_text(page)
    (folder / "04_only.md").write_text(page)
    (folder / "notes.md").write_text("# No notebook\n")
    (folder / ".hidden.ipynb").write_text("{")
    nbformat.write(nbformat.v4.new_notebook(), folder / "scratch.ipynb")
    asked = pretend("passed")
    invoke("check", folder, folder / "04_only.md")
    assert [name for name, *_ in asked] == ["03_mine.ipynb", "04_only.md"]


def test_several_ids_of_a_notebook_are_one_run(pretend, folder):
    write(folder / "03_mine.ipynb", ("03.merge_heads", RIGHT), ("03.split_heads", STUB))
    asked = pretend("passed")
    invoke("check", "03.split_heads", folder, "03.merge_heads")
    assert [only for _, only, *_ in asked] == [("03.split_heads", "03.merge_heads")]


def test_what_is_not_there_is_refused_in_one_line(folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "bad.ipynb").write_text("{")
    assert "Did you mean '03.merge_heads'" in refuse("check", "03.merge_head")
    assert "03.split_heads is in no notebook of exercises" in refuse("check", "03.split_heads")
    assert "no such notebook or folder" in refuse("check", "nothing.ipynb")
    assert "no such notebook or folder" in refuse("check", "03.ipynb")
    assert "has no notebook with exercises" in refuse("check", "empty")
    assert "must end in .ipynb" in refuse("check", "x.txt")
    assert "is not a notebook" in refuse("check", "bad.ipynb")
    assert "choose one" in refuse("check", "--watch", "--json")
    monkeypatch.chdir(tmp_path / "empty")
    assert "no folder 'exercises' here" in refuse("check")
    assert "no folder 'exercises' here" in refuse("progress")
    assert "no such folder" in refuse("progress", "nothing")
    for options in (["--hint", "0"], ["--time-limit", "0"]):
        assert invoke("check", *options).exit_code == 2


# --watch


class _Clock:
    """Stands for ``time.sleep``: each look does the next thing, the last is Ctrl-C."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, seconds):
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def nothing():
    pass


def watch(monkeypatch, *steps):
    monkeypatch.setattr(learning.time, "sleep", _Clock(*steps))
    return invoke("check", "--watch")


def test_only_what_was_saved_is_checked_again(pretend, folder, monkeypatch):
    write(folder / "04_other.ipynb", ("04.gelu", "def gelu(x): return x"))
    asked = pretend("failed", "failed", "passed")

    def save():
        write(folder / "03_mine.ipynb", ("03.merge_heads", WRONG))

    result = watch(monkeypatch, nothing, save, nothing, nothing, nothing)
    assert result.exit_code == 0, result.output
    names = [name for name, *_ in asked]
    assert names == ["03_mine.ipynb", "04_other.ipynb", "03_mine.ipynb"]
    assert states(folder) == {"03.merge_heads": "passed"}
    assert result.stdout.count("passed, ") == 2 and "Aborted" not in result.output


def test_a_file_that_is_still_being_written_is_waited_for(pretend, folder, monkeypatch):
    asked = pretend("passed")
    path = folder / "03_mine.ipynb"
    whole = path.read_text()

    def half():
        path.write_text(whole[:100])

    def more():
        path.write_text(whole[:200])

    def full():
        path.write_text(whole + "\n")

    assert watch(monkeypatch, half, more, full).exit_code == 0
    assert len(asked) == 1
    assert watch(monkeypatch, half, more, full, nothing).exit_code == 0
    assert len(asked) == 3


def test_new_and_damaged_and_removed_notebooks_do_not_end_the_watch(pretend, folder, monkeypatch):
    asked = pretend("passed")
    steps = [
        lambda: write(folder / "04_new.ipynb", ("04.gelu", "def gelu(x): return x")),
        nothing,
        lambda: (folder / "03_mine.ipynb").write_text("{"),
        nothing,
        lambda: [path.unlink() for path in folder.glob("*.ipynb")],
        nothing,
        lambda: write(folder / "03_mine.ipynb", ("03.merge_heads", RIGHT)),
        nothing,
    ]
    result = watch(monkeypatch, *steps)
    assert result.exit_code == 0, result.output
    names = [name for name, *_ in asked]
    assert names == ["03_mine.ipynb", "04_new.ipynb", "03_mine.ipynb", "03_mine.ipynb"]
    assert "is not a notebook" in result.stdout
    assert "has no notebook with exercises" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="a signal of this kind ends the process on Windows")
def test_ctrl_c_ends_the_watch_in_a_process(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "course_pkg.cli", "check", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        cwd=folder.parent,
    )
    try:
        for line in process.stdout:
            if "watching" in line:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == ""


# course progress


def test_a_map_of_nothing_done(folder):
    shown = invoke("progress").stdout
    lines = shown.splitlines()
    exercises = all_exercises()
    assert f"0 of {len(exercises)} done" in shown
    assert f"next: {exercises[0].id}" in shown and "failing" not in lines[-1]
    assert len(lines) < 24 and max(map(len, lines)) <= 80
    assert "\x1b" not in shown
    assert not (folder / JOURNAL).exists()


def test_a_map_shows_each_exercise_in_its_state(folder):
    exercises = [exercise for exercise in all_exercises() if exercise.chapter == 3]
    done, failing, raising = exercises[:3]
    results = [
        Result(done.id, "passed", done.points, done.points),
        Result(failing.id, "failed", 0, failing.points),
        Result(raising.id, "raises", 0, raising.points),
        Result("03.of_another_year", "passed", 99, 99),
    ]
    progress.record(results, folder)
    lines = invoke("progress").stdout.splitlines()
    own = next(line for line in lines if line.startswith("3  multi-head attention"))
    assert f"  ✓✗✗{'·' * (len(exercises) - 3)} " in own
    points = sum(exercise.points for exercise in exercises)
    assert own.endswith(f"  1 of {len(exercises):>2} done  {done.points:>4} of {points:>3} points")
    assert f"failing: {failing.id}, {raising.id}" in lines


def test_a_map_of_everything_done(folder):
    exercises = all_exercises()
    progress.record([Result(e.id, "passed", e.points, e.points) for e in exercises], folder)
    shown = invoke("progress", folder).stdout
    assert f"{len(exercises)} of {len(exercises)} done" in shown
    assert "Every exercise is done." in shown and "next:" not in shown


def test_many_failures_still_fit_a_screen(folder):
    progress.record([Result(e.id, "failed", 0, e.points) for e in all_exercises()], folder)
    lines = invoke("progress").stdout.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= 80


def test_every_chapter_has_a_title():
    for chapter in {exercise.chapter for exercise in all_exercises()}:
        assert learning._chapter_title(chapter) != "exercises"


def test_a_terminal_in_an_old_encoding_gets_plain_marks(monkeypatch):
    class Stream:
        encoding = "cp1252"

    monkeypatch.setattr(learning.sys, "stdout", Stream())
    assert "".join(learning._marks().values()).isascii()
    Stream.encoding = "utf-8"
    assert learning._marks()["passed"] == "✓"


def test_in_a_terminal_the_marks_and_colours_are_there(pretend, folder, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    pretend("passed")
    shown = invoke("check").stdout
    assert "✓ 03.merge_heads" in shown and "\x1b[32m" in shown


def test_bars_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with learning._live(learning._console(), ["01_tokenizer"]) as update:
        update(0, 2, 7)
    shown = capsys.readouterr().out
    assert "01_tokenizer" in shown and "2/7" in shown


def test_the_commands_load_no_pytorch_before_they_run():
    code = "import sys, course_pkg.cli; print('torch' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["False", "False"]
