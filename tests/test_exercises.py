"""What holds for every exercise of every chapter; right and wrong answers of its own are beside."""

import math
from pathlib import Path

import pytest
import torch
from judging import evaluate_at_seeds

from course_pkg.authoring.exercises import read_solutions
from course_pkg.checks import all_exercises
from course_pkg.checks.engine import evaluate, find_exercise

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
    from_a_list = exercise.answer_is_value or exercise.kind == "explore"
    assert len(exercise.properties) >= (2 if from_a_list else 4)
    assert len(exercise.misconceptions) >= (2 if from_a_list else 3)
    assert exercise.hints


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
