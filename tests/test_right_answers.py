"""A learner who is right by another route is never told otherwise."""

import importlib

import pytest
from judging import evaluate_at_seeds

from course_pkg.checks import all_exercises

EXERCISES = {exercise.id: exercise for exercise in all_exercises()}
CHAPTERS = range(1, 7)
RIGHT = {
    identifier: answers
    for chapter in CHAPTERS
    for identifier, answers in importlib.import_module(
        f"right_answers.ch{chapter:02}"
    ).RIGHT.items()
}


def test_every_exercise_has_at_least_three_and_none_is_unknown():
    assert RIGHT.keys() == EXERCISES.keys()
    few = {identifier: len(answers) for identifier, answers in RIGHT.items() if len(answers) < 3}
    assert not few


@pytest.mark.parametrize(
    ("identifier", "style"),
    [
        pytest.param(identifier, style, id=f"{identifier}-{style}")
        for identifier, answers in RIGHT.items()
        for style in answers
    ],
)
def test_right_by_another_route_passes(identifier, style):
    answer = RIGHT[identifier][style]
    assert answer is not EXERCISES[identifier].reference
    for report in evaluate_at_seeds(identifier, answer):
        assert report.status == "passed", report.text()
