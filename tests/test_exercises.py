"""What holds for every exercise of every chapter; right and wrong answers of its own are beside."""

import collections
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from judging import evaluate_at_seeds

from course_pkg.authoring.exercises import read_solutions
from course_pkg.checks import all_exercises
from course_pkg.checks.engine import Kind, evaluate, find_exercise

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "solutions").glob("[0-9][0-9]_*.md"))
EXERCISES = all_exercises()

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_each_chapter_has_at_least_five_exercises_of_several_kinds():
    for chapter in range(1, 7):
        kinds = [exercise.kind for exercise in EXERCISES if exercise.chapter == chapter]
        assert len(kinds) >= 5 and len(set(kinds)) >= 3, chapter


@each_page
def test_page_and_checks_declare_the_same_exercises(page):
    declared = [(e.id, e.title, e.kind, e.points) for e in EXERCISES if e.id[:2] == page.name[:2]]
    written = [(e.id, e.title, e.kind, e.points) for e in read_solutions(page).exercises]
    assert written == declared


@each_exercise
def test_enough_is_asked_and_explained(exercise):
    is_open = exercise.kind in ("predict", "explore")
    assert len(exercise.properties) >= 4
    assert len(exercise.misconceptions) >= (2 if is_open else 3)
    assert exercise.hints


def test_there_are_enough_of_every_kind():
    kinds = collections.Counter(exercise.kind for exercise in EXERCISES)
    assert kinds.total() >= 40
    assert kinds["measure"] >= 3
    assert set(kinds) == set(get_args(Kind))


@each_exercise
def test_it_builds_on_earlier_exercises(exercise):
    ids = [e.id for e in EXERCISES]
    assert all(other in ids[: ids.index(exercise.id)] for other in exercise.builds_on)


@each_exercise
def test_its_axes_fit_its_own_inputs(exercise):
    if exercise.axes is None:
        pytest.skip("its answer has no axes")
    for inputs in exercise.cases(torch.Generator().manual_seed(1)):
        axes = exercise.axes(*inputs)
        assert axes and all(isinstance(size, int) and size > 0 for size in axes.values())


@each_page
def test_stubs_count_as_not_started(page):
    for exercise in read_solutions(page).exercises:
        names = {"torch": torch, "nn": torch.nn, "math": math}
        exec(compile(exercise.stub, f"<stub of {exercise.id}>", "exec"), names)
        answer = list(names.values())[-1]
        assert evaluate(find_exercise(exercise.id), answer).status == "not started", exercise.id


@each_exercise
def test_its_section_is_in_its_chapter(exercise):
    (page,) = (ROOT / "book").glob(f"{exercise.id[:2]}_*.md")
    headings = sum(line.startswith("## ") for line in page.read_text("utf-8").splitlines())
    sections = [exercise.section, *(m.section for m in exercise.misconceptions if m.section)]
    for chapter, section in (place.split(".")[:2] for place in sections):
        if int(chapter) == exercise.chapter:
            assert 1 <= int(section) <= headings, sections


@each_exercise
def test_reference_passes(exercise):
    for report in evaluate_at_seeds(exercise.id, exercise.reference):
        assert report.status == "passed", report.text()


@pytest.mark.parametrize(
    ("exercise", "misconception"),
    [
        pytest.param(exercise, misconception, id=f"{exercise.id}-{misconception.name}")
        for exercise in EXERCISES
        for misconception in exercise.misconceptions
    ],
)
def test_misconception_fails_and_is_diagnosed_as_itself(exercise, misconception):
    for report in evaluate_at_seeds(exercise.id, misconception.answer):
        assert report.status == "failed"
        (diagnosis,) = report.diagnoses
        assert diagnosis.startswith(f"{misconception.name}. ")
