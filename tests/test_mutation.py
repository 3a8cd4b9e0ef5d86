"""The mutator itself, and that what survives is what ``tests/survivors`` lists."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import mutation
import pytest
import torch
from mutation import Cell, Rate, fate, listed, listed_rate, mutants, try_all

from course_pkg.checks import engine
from course_pkg.checks.engine import Exercise, Property

ROOT = Path(__file__).parents[1]
CHAPTERS = mutation.chapters()
needs_timer = pytest.mark.skipif(
    sys.platform == "win32", reason="a mutant that never ends cannot be stopped there"
)

SOLUTION = '''\
def total(numbers, start):
    """The sum from a place on."""
    result = 0
    for number in numbers[start:]:
        if number > 0 and not number == 7:
            result += number
    return result
'''


def make_cell(source=SOLUTION, answer="total", lines=None):
    whole = frozenset(range(1, source.count("\n") + 2))
    return Cell("99.total", source, 10, lines or whole, {"torch": torch}, answer)


def total(numbers, start):
    return sum(n for n in numbers[start:] if n > 0 and n != 7)


@pytest.fixture
def exercise(monkeypatch):
    """An exercise that has no case with a 7 and none with a 0."""
    declared = Exercise(
        id="99.total",
        title="A sum",
        kind="implement",
        points=1,
        difficulty=1,
        section="9.1",
        reference=total,
        cases=lambda generator: [([3, 2, -5, 8], 1), ([2, 4, 1, -1], 2)],
        properties=(Property("values", "The sum is right."),),
    )
    monkeypatch.setattr(engine, "find_exercise", lambda identifier: declared)
    return declared


def keys(cell):
    return [mutant.key for mutant in mutants(cell)]


@pytest.mark.parametrize(
    "expected",
    [
        "for number in numbers[start:]: -> for number in numbers[start + 1:]:",
        "for number in numbers[start:]: -> for number in numbers[:]:",
        "if number > 0 and (not number == 7): -> if number > 0 or not number == 7:",
        "if number > 0 and (not number == 7): -> if number >= 0 and (not number == 7):",
        "if number > 0 and (not number == 7): -> if number > 0 and number == 7:",
        "if number > 0 and (not number == 7): -> if number > 0 and (not number == 8):",
        "if number > 0 and (not number == 7): -> if number > 0:",
        "if number > 0 and (not number == 7): -> if True:",
        "result += number -> result -= number",
        "result += number -> result = number",
        "result += number -> (nothing)",
        "result = 0 -> result = 1",
        "return result -> return None",
    ],
)
def test_a_change_of_each_kind_is_made(expected):
    assert expected in keys(make_cell())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = x.transpose(1, 2).contiguous()", "y = x.transpose(1, 2)"),
        ("y = x.detach().clone()", "y = x.clone()"),
        ("y = x.sum(dim=-1, keepdim=True)", "y = x.sum(dim=-2, keepdim=True)"),
        ("y = x.sum(dim=-1, keepdim=True)", "y = x.sum(dim=-1)"),
        ("y = x.sum(dim=-1, keepdim=True)", "y = x.sum(dim=-1, keepdim=False)"),
        ("y = x.sum(dim=-1, keepdim=True)", "y = x.mean(dim=-1, keepdim=True)"),
        ("y = torch.softmax(x, dim=1)", "y = x"),
        ("y = torch.tril(x)", "y = torch.triu(x)"),
        ("y = f(a, b)", "y = f(b, a)"),
        ("y = min(a, b)", "y = max(a, b)"),
        ("y = a @ b", "y = b @ a"),
        ("y = x[:, 1:]", "y = x[:, 1:-1]"),
        ("y = range(n)", "y = range(n + 1)"),
        ("y = [a for a in x if a]", "y = [a for a in x]"),
        ("y = a if b else c", "y = c"),
        ('y = {"p": a, "q": b}', "y = {'p': b, 'q': a}"),
        ("with torch.no_grad(): y = 1", "y = 1"),
    ],
)
def test_a_line_is_changed(line, expected):
    assert expected in [mutant.source for mutant in mutants(make_cell(line, "y"))]


def test_names_bound_together_are_confused():
    source = "def f(queries, keys, num_heads):\n    q, k = queries, keys\n    return q @ k"
    found = [mutant.source for mutant in mutants(make_cell(source, "f"))]
    assert any("return k @ k" in text for text in found)
    assert any("q, k = (keys, keys)" in text for text in found)


def test_text_for_readers_is_left_alone():
    source = 'def f(x):\n    """One."""\n    raise ValueError(f"x={x} is wrong")'
    assert not any("One" in key or "f'" in key.split(" -> ")[1] for key in keys(make_cell(source)))


def test_only_the_region_is_changed():
    cell = make_cell(lines=frozenset({7}))
    assert {mutant.line for mutant in mutants(cell)} == {16}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_mutants_are_distinct_valid_and_always_the_same(chapter):
    for cell in mutation.cells(chapter).values():
        made = mutants(cell)
        assert made == mutants(cell)
        sources = [mutant.source for mutant in made]
        assert (
            len(set(sources)) == len(sources) and ast.unparse(ast.parse(cell.source)) not in sources
        )
        assert len({mutant.key for mutant in made}) == len(made) > 0
        for source in sources:
            ast.parse(source)


def test_a_check_that_asks_too_little_is_found_out(exercise):
    tally = try_all(make_cell())
    before = "if number > 0 and (not number == 7): -> "
    assert {mutant.key.removeprefix(before) for mutant in tally.survivors} == {
        "if number >= 0 and (not number == 7):",
        "if number > -1 and (not number == 7):",
        "if number > 0:",
        "if number > 0 and (not number == 6):",
        "if number > 0 and (not number == 0):",
        "if number > 0 and (not number == -7):",
    }
    assert tally.count("survived") == 6 and tally.count("value") > 6 and not tally.count("time")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return sum(n for n in numbers[start:] if n > 0)", "survived"),
        ("return sum(numbers[start:])", "value"),
        ("return numbers[99]", "raise"),
        ("return undefined", "raise"),
        ("raise SystemExit", "raise"),
        pytest.param("while True: pass", "time", marks=needs_timer),
        pytest.param(
            "while True:\n        try: pass\n        except BaseException: pass",
            "time",
            marks=needs_timer,
        ),
    ],
)
def test_fate(exercise, body, expected):
    assert fate(make_cell(f"def total(numbers, start):\n    {body}"), seconds=0.5) == expected


def test_a_cell_that_raises_is_killed(exercise):
    assert fate(make_cell("total = 1 / 0")) == "raise"


def test_a_solution_that_does_not_pass_is_reported(exercise):
    with pytest.raises(RuntimeError, match="does not pass its own check"):
        try_all(make_cell("def total(numbers, start):\n    return 1"))


def test_judging_moves_no_global_generator(exercise):
    before = torch.random.get_rng_state()
    fate(make_cell("total = torch.rand(3)"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rate():
    assert (Rate(10, 2, 1) + Rate(10, 0, 1)) == Rate(20, 2, 2)
    assert Rate(20, 2, 2).share == 16 / 18


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_listed_survivor_is_a_mutant_and_has_a_reason(chapter):
    made = {(m.exercise, m.key) for cell in mutation.cells(chapter).values() for m in mutants(cell)}
    entries = [(entry["exercise"], entry["mutant"]) for entry in listed(chapter)]
    assert len(set(entries)) == len(entries)
    assert set(entries) <= made
    assert all(entry["reason"].strip() for entry in listed(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_at_least_95_percent_of_a_chapters_mutants_are_killed(chapter):
    assert listed_rate(chapter).share >= 0.95


@needs_timer
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_survives_is_what_is_listed(chapter):
    """In a process of its own: type hints are not checked there, as in a learner's notebook."""
    command = [sys.executable, "tests/mutation.py", f"{chapter:02}", "--sample"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
