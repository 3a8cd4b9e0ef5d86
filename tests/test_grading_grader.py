"""Grading a class: who gets what, whatever is handed in, and whatever happens on the way."""

import dataclasses
import itertools
import json
import random
import re
import threading
from pathlib import Path

import class_of
import pytest
import sandboxes
import torch

from course_pkg.checks import engine
from course_pkg.grading import cluster, grader, orders, sandbox, wire
from course_pkg.grading.grader import Examiner, Progress
from course_pkg.grading.results import Run
from course_pkg.grading.sandbox import Broken, Reply, Sandbox

ROOT = Path(__file__).parents[1]
SOLUTIONS = ROOT / "solutions"
SEED = 77
SPLIT = "03.split_heads"
RIGHT = (
    "def split_heads(x, num_heads):\n    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)"
)


@pytest.fixture(scope="module")
def box():
    limits = Examiner([], {}, SEED, time_limit=3.0, cell_limit=3.0).limits
    with Sandbox(sandboxes.kind(), limits) as made:
        made.start()  # by this thread: it ends with the one that started it
        yield made


@pytest.fixture(scope="module")
def pages():
    return orders.pages(SOLUTIONS)


@pytest.fixture(scope="module")
def examiner(pages):
    return Examiner(grader.exercises_of(), pages, SEED, time_limit=3.0, cell_limit=3.0)


@pytest.fixture
def examine(examiner, box):
    def run(exercise_id, cell, extras=()):
        runner = lambda order: grader.run_surely(box, order)  # noqa: E731
        return examiner.examine(exercise_id, cell, extras, runner)

    return run


def test_the_course_itself_earns_everything_and_its_stubs_nothing():
    found = grader.verify(SOLUTIONS, kind=sandboxes.kind(), seed=SEED)
    assert [v.exercise_id for v in found] == [e.id for e in engine.all_exercises()]
    assert [(v.exercise_id, v.problem) for v in found if v.problem] == []
    assert sum(v.solution.points for v in found) == sum(e.points for e in engine.all_exercises())


def test_a_solution_that_is_wrong_is_found(pages, monkeypatch):
    wrong = dataclasses.replace(pages[SPLIT], solution=pages[SPLIT].stub)
    monkeypatch.setattr(orders, "pages", lambda folder: {**pages, SPLIT: wrong})
    found = grader.verify(SOLUTIONS, chapters=[3], kind=sandboxes.kind(), seed=SEED)
    assert [v.exercise_id for v in found if v.problem] == [SPLIT]


# One answer


def test_a_right_answer_by_another_route_gets_the_points(examine):
    result = examine(SPLIT, RIGHT)
    assert (result.status, result.points) == ("passed", 2)
    assert all(finding.holds for finding in result.findings)
    assert result.problem is None


def test_a_known_mistake_is_named(examine):
    cell = """
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.view(B, num_heads, T, D // num_heads)
"""
    result = examine(SPLIT, cell)
    exercise = engine.find_exercise(SPLIT)
    assert (result.status, result.points) == ("failed", 0)
    assert result.misconceptions[0] in {m.name for m in exercise.misconceptions}
    assert result.diagnoses[0].startswith(result.misconceptions[0])
    assert result.hints == exercise.hints
    failing = [finding for finding in result.findings if not finding.holds]
    assert failing
    assert all(finding.message for finding in failing)


def _hidden_numbers(exercise_id):
    """Numbers that are in hidden inputs and not in those of the learner's own check."""

    def numbers(seed):
        looks = engine.looks_of(engine.find_exercise(exercise_id), seed).values()
        tensors = [x for look in looks for call in look.calls for x in call]
        return {
            f"{value:.5f}"
            for x in tensors
            if isinstance(x, torch.Tensor)
            for value in x.flatten().tolist()
        }

    return numbers(SEED) - numbers(engine.SEED), numbers(engine.SEED)


def _all_that_is_told(result):
    return json.dumps({**result.to_dict(), "seconds": 0})  # these may be any number


@pytest.mark.parametrize(
    "body",
    [
        "print(*[f'{v:.5f}' for v in x.flatten().tolist()])\n    return x",
        "raise ValueError(' '.join(f'{v:.5f}' for v in x.flatten().tolist()[:30]))",
        "raise type(f'{x.flatten()[0].item():.5f}', (Exception,), {})",
        "return ' '.join(f'{v:.5f}' for v in x.flatten().tolist()[:9])",
        "return [f'{v:.5f}' for v in x.flatten().tolist()]",
        "return {f'{v:.5f}': 1 for v in x.flatten().tolist()}",
    ],
)
def test_no_hidden_input_gets_out_whatever_the_code_does(examine, body):
    result = examine(SPLIT, f"def split_heads(x, num_heads):\n    {body}")
    told = _all_that_is_told(result)
    hidden, public = _hidden_numbers(SPLIT)
    assert not [number for number in hidden if number in told]
    if "return [" not in body and "return {" not in body:
        assert [number for number in public if number in told]  # what they can see themselves


def test_no_hidden_input_gets_out_through_the_signature_or_the_cell(examine):
    # At the time of the cell the order is in the process's memory.
    cell = """
import gc
found = [o for o in gc.get_objects() if isinstance(o, dict) and "looks" in o]
x = found[0]["looks"][0][3][0][0]
raise ValueError(" ".join(f"{v:.5f}" for v in x.flatten().tolist()[:30]))
"""
    told = _all_that_is_told(examine(SPLIT, cell))
    hidden, _ = _hidden_numbers(SPLIT)
    assert not [number for number in hidden if number in told]


def test_answers_to_the_public_inputs_alone_earn_nothing(examine):
    cell = f"""
import torch
{RIGHT.replace("split_heads", "honest")}
seen = {{}}
def split_heads(x, num_heads):
    generator = torch.Generator().manual_seed({engine.SEED})
    first = torch.randn(x.shape, generator=generator)
    return honest(x, num_heads) if torch.equal(x, first) else x
"""
    # Right on the first public input only: what the grader saw decides.
    assert examine(SPLIT, cell).points == 0


def test_a_value_that_is_right_only_where_students_look_is_told_so(examiner, box, monkeypatch):
    public = {"seen": 0}

    def run(order):
        asked = wire.decode(order)
        right = asked["seed"] == engine.SEED
        public["seen"] += right
        cell = RIGHT if right else "def split_heads(x, num_heads): return x"
        return box.run(wire.encode({**asked, "cell": cell}))

    result = examiner.examine(SPLIT, "def split_heads(x, num_heads): ...", (), run)
    assert public["seen"] == 1
    assert result.points == 0
    messages = {finding.message for finding in result.findings if not finding.holds}
    assert any("is a value fixed?" in (message or "") for message in messages)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("def split_heads(x, num_heads):\n    retrun x", "line 2: retrun x"),
        ("1 / 0", "ZeroDivisionError"),
        ("splitheads = 3", "does not define"),
        ("def split_heads(x): return x", r"yours takes split_heads\(x\)"),
        ("while True: pass", "still running after 3 seconds"),
        ("import os; os._exit(3)", "exit code 3"),
        ("(" * 5000, "raises"),
        ("split_heads = 'é' * 10", "expected the function split_heads"),
    ],
)
def test_what_cannot_be_judged_is_told_in_words(examine, cell, said):
    result = examine(SPLIT, cell)
    assert (result.status, result.points) == ("failed", 0)
    assert re.search(said, result.problem or ""), result.problem


def test_the_stub_is_not_started(examine, pages):
    for exercise_id in (SPLIT, "03.shapes", "06.resume"):
        result = examine(exercise_id, pages[exercise_id].stub)
        assert (result.status, result.points, result.problem) == ("not started", 0, None)


def test_an_error_after_the_definition_costs_nothing(examine):
    assert examine(SPLIT, RIGHT + "\nprint(split_heads(3))").points == 2


def test_a_helper_may_stand_in_another_cell(examine):
    cell = "def split_heads(x, num_heads): return helped(x, num_heads)"
    helper = RIGHT.replace("split_heads", "helped")
    result = examine(SPLIT, cell, ["y = 3", helper, "raise ValueError"])
    assert result.points == 2
    assert examine(SPLIT, cell).points == 0


def test_an_earlier_answer_is_the_references(examine):
    """A mistake in one exercise costs nothing in the next that uses its function."""
    cell = """
def merge_heads(x):
    back = x.transpose(1, 2).flatten(2)
    assert torch.equal(split_heads(back, x.shape[1]), x)
    return back
"""
    wrong = "def split_heads(x, num_heads): return x"
    assert examine("03.merge_heads", cell, [wrong]).points == 2


def test_a_later_answer_is_not_lent(examine):
    cell = "def split_heads(x, num_heads): return merge_heads(x)"
    assert examine(SPLIT, cell).points == 0


def test_magics_plots_and_checks_of_their_own_do_no_harm(examine):
    cell = f"""%matplotlib inline
!pip install torch
{RIGHT}
figures.show(plt.figure())
check("{SPLIT}", split_heads)
display(split_heads)
"""
    result = examine(SPLIT, cell)
    assert result.points == 2


# What comes back is data


def _reply(exercise_id, change):
    """A runner that changes what the sandbox sent before anybody reads it."""

    def run(order):
        asked = wire.decode(order)
        page = orders.pages(SOLUTIONS)[exercise_id]
        with Sandbox(sandboxes.kind()) as box:
            reply = box.run(wire.encode({**asked, "cell": page.solution}))
        return Reply(change(reply.content))

    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content + content,
        lambda content: b"GPW1" + content,
        lambda content: b"",
        lambda content: wire.encode([1, 2, 3]),
        lambda content: wire.encode({**wire.decode(content, opaque=str), "seen": []}),
        lambda content: wire.encode({"fault": "x"}),
    ],
)
def test_a_reply_that_is_none_earns_nothing(examiner, box, change, pages):
    def run(order):
        asked = wire.decode(order)
        reply = box.run(wire.encode({**asked, "cell": pages[SPLIT].solution}))
        return Reply(change(reply.content))

    result = examiner.examine(SPLIT, "x", (), run)
    assert (result.status, result.points) == ("failed", 0)
    assert result.problem


def test_what_takes_too_long_to_judge_is_given_up(examiner, box, monkeypatch):
    monkeypatch.setattr(grader, "_JUDGE_LIMIT", 0.2)
    monkeypatch.setattr(engine, "judge", lambda *a, **k: [None for _ in itertools.count()])
    result = examiner.examine(SPLIT, RIGHT, (), lambda order: grader.run_surely(box, order))
    assert result.points == 0
    assert "too much to judge" in (result.problem or "")


# A class


def _facts(run):
    """Everything but the times."""
    return {
        (student.student, exercise_id): dataclasses.replace(result, seconds=0.0)
        for student in run.students
        for exercise_id, result in student.exercises.items()
    }


@pytest.fixture(scope="module")
def a_class(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    truth = class_of.make(folder, 2, chapters=(3, 5), seed=4)
    return folder, truth


@pytest.fixture(scope="module")
def grade(box):
    """``grader.grade`` in one sandbox that stays warm from test to test."""

    def run(*args, **kwargs):
        runner = lambda order: grader.run_surely(box, order)  # noqa: E731
        given = {"solutions": SOLUTIONS, "kind": box.kind, "runners": [runner]} | kwargs
        limits = {"time_limit": 3.0, "cell_limit": 3.0}
        return grader.grade(*args, **limits, **given)

    return run


@pytest.fixture(scope="module")
def graded(a_class, grade, tmp_path_factory):
    out = tmp_path_factory.mktemp("grades")
    return grade(a_class[0], out, seed=SEED), out


def test_everybody_gets_what_they_earn(graded, a_class):
    run, _ = graded
    got = {
        student.student: {
            exercise_id: result.status for exercise_id, result in student.exercises.items()
        }
        for student in run.students
    }
    status = {"right": "passed", "stub": "not started", "wrong": "failed", "broken": "failed"}
    expected = {
        student: {exercise_id: status[kind] for exercise_id, kind in kinds.items()}
        for student, kinds in a_class[1].items()
    }
    assert got == expected


def test_the_number_of_jobs_changes_nothing(graded, grade, a_class, tmp_path):
    run = grade(a_class[0], tmp_path, seed=SEED, jobs=2, runners=())
    assert _facts(run) == _facts(graded[0])


def test_the_facts_survive_json(graded):
    run, _ = graded
    assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_student_and_a_chapter_alone(grade, graded, a_class, tmp_path):
    student = sorted(a_class[1])[1]
    run = grade(a_class[0], tmp_path, seed=SEED, students=[student], chapters=[3],
    )  # fmt: skip
    facts = _facts(run)
    assert {s for s, _ in facts} == {student}
    assert {e[:2] for _, e in facts} == {"03"}
    assert facts == {key: _facts(graded[0])[key] for key in facts}


class StopHere(Exception):  # noqa: N818 -- it is no error
    pass


@pytest.mark.parametrize("after", [0, 7])
def test_an_interrupted_run_goes_on_and_ends_the_same(grade, graded, a_class, tmp_path, after):
    seen = []

    def stop(progress: Progress):
        seen.append(progress.exercises)
        if len(seen) == after + 1:
            raise StopHere

    with pytest.raises(StopHere):
        grade(a_class[0], tmp_path, seed=SEED, on_progress=stop,
        )  # fmt: skip
    with pytest.raises(ValueError, match="was interrupted: --resume"):
        grade(a_class[0], tmp_path)
    again = []
    run = grade(a_class[0], tmp_path, resume=True, on_progress=again.append,
    )  # fmt: skip
    assert again[0].exercises >= after  # what was done is not done again
    assert run.seed == SEED
    assert _facts(run) == _facts(graded[0])


def test_a_run_with_other_inputs_is_not_gone_on_with(grade, a_class, graded):
    _, out = graded
    with pytest.raises(ValueError, match="another run: seed differs"):
        grade(a_class[0], out, seed=1, resume=True)


def test_what_was_handed_in_anew_is_graded_anew(grade, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "ada").mkdir(parents=True)
    for source, points in (("def split_heads(x, num_heads): return x", 0), (RIGHT, 2)):
        path = folder / "ada" / "03_multi_head_attention.ipynb"
        path.write_text(json.dumps(class_of.notebook_of(3, {SPLIT: source})))
        run = grade(folder, out, seed=SEED, resume=points == 2)
        assert run.students[0].exercises[SPLIT].points == points


def test_what_is_odd_about_an_answer_is_told_though_it_was_graded_before(grade, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "ada").mkdir(parents=True)
    path = folder / "ada" / "03_multi_head_attention.ipynb"
    notebook = class_of.notebook_of(3, {SPLIT: RIGHT})
    path.write_text(json.dumps(notebook))
    assert not grade(folder, out, seed=SEED).students[0].exercises[SPLIT].oddities
    (cell,) = (c for c in notebook["cells"] if "".join(c["source"]) == RIGHT)
    notebook["cells"].append({**cell, "id": "twice"})
    path.write_text(json.dumps(notebook))
    result = grade(folder, out, resume=True).students[0].exercises[SPLIT]
    assert (result.points, result.oddities) == (2, ("2 cells have this exercise's id: all alike",))


def test_two_graders_on_one_folder(grade, a_class, tmp_path):
    entered, leave = threading.Event(), threading.Event()

    def hold(progress):
        entered.set()
        leave.wait(60)

    def first():
        grade(a_class[0], tmp_path, seed=SEED, chapters=[5], on_progress=hold,
        )  # fmt: skip

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert entered.wait(60)
        with pytest.raises(ValueError, match="another grader works in this folder"):
            grade(a_class[0], tmp_path)
    finally:
        leave.set()
        thread.join()


def test_missing_and_refused_files_are_told(grade, tmp_path):
    folder = tmp_path / "in"
    for student in ("ada", "eve"):
        (folder / student).mkdir(parents=True)
    source = class_of.notebook_of(3, {SPLIT: RIGHT})
    (folder / "ada" / "03_multi_head_attention.ipynb").write_text(json.dumps(source))
    (folder / "ada" / "02_causal_attention.ipynb").write_text("{ not a notebook")
    (folder / "eve" / "03_multi_head_attention.ipynb").symlink_to("/etc/passwd")
    run = grade(folder, tmp_path / "out", seed=SEED)
    ada, eve = run.students
    assert ada.exercises[SPLIT].points == 2
    assert ada.exercises["02.softmax"].status == "refused"
    assert eve.exercises[SPLIT].status == "refused"
    assert eve.exercises["02.softmax"].status == "missing"


def test_a_sandbox_that_breaks_stops_the_run_and_costs_nobody(
    box, grade, a_class, graded, tmp_path
):
    """Grades are never zero because the machine was at fault."""
    calls = itertools.count()

    def run(order):
        if next(calls) == 9:
            raise Broken("the disk is gone")
        return box.run(order)

    with pytest.raises(Broken, match="the disk is gone"):
        grade(a_class[0], tmp_path, seed=SEED, runners=[run])
    run = grade(a_class[0], tmp_path, resume=True)
    assert _facts(run) == _facts(graded[0])


def test_an_answer_that_breaks_the_sandbox_costs_only_itself(monkeypatch):
    class Box(Sandbox):
        def run(self, order):
            raise Broken("gone")

    broken = Box(sandboxes.kind())
    monkeypatch.setattr(sandbox, "trial", lambda kind: None)
    assert "broke the sandbox" in (grader.run_surely(broken, b"").ended or "")
    monkeypatch.setattr(sandbox, "trial", lambda kind: "no more processes")
    with pytest.raises(Broken, match="no more processes"):
        grader.run_surely(broken, b"")


# An instructor's own cases


def _hide(folder, text):
    folder.mkdir()
    (folder / "extra.py").write_text(text)
    return folder


HIDDEN = f"""
import torch

def wide(generator):
    return [(torch.randn(1, 2, 64, generator=generator), 64)]

CASES = [("{SPLIT}", "as many heads as features", "values", wide)]
"""


def test_hidden_cases_count_and_are_not_shown(tmp_path, box, pages):
    folder = _hide(tmp_path / "hidden", HIDDEN)
    exercises = grader.exercises_of([3], folder)
    examiner = Examiner(exercises, pages, SEED)
    run = lambda order: box.run(order)  # noqa: E731
    assert examiner.examine(SPLIT, RIGHT, (), run).points == 2
    cell = f"{RIGHT}\nhonest = split_heads\n"
    cell += (
        "def split_heads(x, num_heads):\n    return honest(x, num_heads if num_heads < 64 else 1)"
    )
    result = examiner.examine(SPLIT, cell, (), run)
    assert result.points == 0
    (failing,) = [finding for finding in result.findings if not finding.holds]
    assert failing.name == "hidden: as many heads as features"
    assert failing.message == "it does not hold on inputs that are not shown"
    assert "64" not in json.dumps([dataclasses.asdict(f) for f in result.findings if not f.holds])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CASES = [('03.nothing', 'a', 'values', None)]", "03.nothing"),
        (f"CASES = [('{SPLIT}', 'a', 'valeus', None)]", "Did you mean 'values'"),
        ("CASES = [('03.shapes', 'a', 'queries', None)]", "asks for a value"),
        ("1 / 0", "ZeroDivisionError"),
        ("", "CASES"),
    ],
)
def test_hidden_cases_that_are_not_as_they_should_be(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        grader.exercises_of([3], _hide(tmp_path / "hidden", text))
    with pytest.raises(ValueError, match=r"holds no \.py file"):
        grader.read_hidden(tmp_path)


def test_arguments_that_do_not_fit(tmp_path, a_class):
    common = {"solutions": SOLUTIONS, "kind": sandboxes.kind()}
    with pytest.raises(ValueError, match="jobs=0"):
        grader.grade(a_class[0], tmp_path, jobs=0, **common)
    with pytest.raises(ValueError, match="chapter=9 has no exercises"):
        grader.grade(a_class[0], tmp_path, chapters=[9], **common)
    with pytest.raises(ValueError, match="holds no solutions page"):
        grader.grade(a_class[0], tmp_path, solutions=tmp_path, kind=common["kind"])


# More than one machine


def test_a_cluster_gives_the_same_grades(grade, graded, a_class, tmp_path):
    distributed = pytest.importorskip("distributed")
    sandboxes.kind()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as local:
        limits = Examiner([], {}, SEED, time_limit=3.0, cell_limit=3.0).limits
        with cluster.connect(local.scheduler_address, limits) as (kind, runners):
            assert kind == sandboxes.kind()
            assert len(runners) == 2
            run = grade(a_class[0], tmp_path, seed=SEED, kind=kind, runners=runners)
    assert _facts(run) == _facts(graded[0])


def test_a_cluster_that_is_not_there(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_LIMIT", 2)
    pytest.importorskip("distributed")
    with (
        pytest.raises(ValueError, match="does not answer"),
        cluster.connect(
            f"tcp://127.0.0.1:{random.Random(1).randrange(20000, 30000)}",
            Examiner([], {}, SEED).limits,
        ),
    ):
        pass
