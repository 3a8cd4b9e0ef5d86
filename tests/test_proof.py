"""``book/data/proof.json`` is about the exercises as they are, and the tools that make it work."""

import json
import xml.etree.ElementTree as ElementTree

import mutation
import peer_checks
import proof
import pytest
import torch

from course_pkg.authoring import figures
from course_pkg.checks import all_exercises
from course_pkg.checks.engine import Exercise, Misconception, Property, find_exercise

EXERCISES = {exercise.id: exercise for exercise in all_exercises()}
AGAIN = "run: python tests/proof.py --resume"


@pytest.fixture(scope="module")
def measured():
    return json.loads(proof.RESULT.read_text("utf-8"))


@pytest.fixture(scope="module")
def by_id(measured):
    return {exercise["id"]: exercise for exercise in measured["exercises"]}


def test_the_proof_is_about_the_declared_exercises(measured, by_id):
    assert list(by_id) == list(EXERCISES), AGAIN
    assert measured["digest"] == proof.digest_of_declarations(), AGAIN
    for identifier, exercise in EXERCISES.items():
        names = [misconception.name for misconception in exercise.misconceptions]
        assert by_id[identifier]["confusion"]["names"] == names
        assert by_id[identifier]["false_alarms"]["styles"] == list(proof.right_answers(exercise))


def test_each_misconception_is_always_diagnosed_as_itself(measured, by_id):
    seeds = len(measured["confusion_seeds"])
    assert seeds >= 5
    for identifier, exercise in by_id.items():
        size = len(exercise["confusion"]["names"])
        expected = [[seeds * (i == j) for j in range(size + 3)] for i in range(size)]
        assert exercise["confusion"]["counts"] == expected, identifier


def test_no_right_answer_is_called_wrong(by_id):
    for identifier, exercise in by_id.items():
        found = exercise["false_alarms"]
        assert found["failures"] == [], identifier
        assert len(found["styles"]) >= 4  # the reference and three other routes
        seeds = proof.VALUE_SEEDS if EXERCISES[identifier].answer_is_value else 200
        assert found["seeds"] >= seeds
        assert found["checks"] == found["seeds"] * len(found["styles"])


@pytest.mark.parametrize("chapter", mutation.chapters())
def test_the_kill_rates_are_about_the_solutions_as_they_are(by_id, chapter):
    listed = mutation.listed(chapter)
    for identifier, cell in mutation.cells(chapter).items():
        found = by_id[identifier]["mutation"]
        entries = [entry for entry in listed if entry["exercise"] == identifier]
        assert found["mutants"] == len(mutation.mutants(cell)), AGAIN
        same = [entry["mutant"] for entry in entries if entry["equivalent"]]
        assert found["equivalent"] == len(same)
        others = {entry["mutant"] for entry in entries} - set(same)
        assert set(found["survivors"]) == others
        killed = found["value"] + found["raise"] + found["time"]
        assert killed + found["equivalent"] + len(found["survivors"]) == found["mutants"]


def test_what_other_courses_notice_is_not_called_equivalent(by_id):
    for course, checks in peer_checks.PEERS.items():
        assert {i for i, e in by_id.items() if course in e["mutation"]["peers"]} == set(checks)
        for identifier in checks:
            found = by_id[identifier]["mutation"]["peers"][course]
            assert found["disputed"] == [], identifier
            ours = by_id[identifier]["mutation"]
            assert found["mutants"] == ours["mutants"] - ours["equivalent"]


def test_no_check_took_two_seconds(measured):
    assert measured["seconds"].keys() == EXERCISES.keys()
    assert max(measured["seconds"].values()) < 2


def test_the_file_is_written_as_the_tool_writes_it_and_can_be_summed_up(measured):
    assert proof.RESULT.read_text("utf-8") == proof.to_text(measured)
    assert "false alarms" in proof.summary(measured)


# The tools.


def half(x):
    return x / 2


@pytest.fixture
def toy():
    return Exercise(
        id="99.half",
        title="Half",
        kind="implement",
        points=1,
        difficulty=1,
        section="9.1",
        reference=half,
        cases=lambda generator: [(torch.rand(3, generator=generator),)],
        properties=(Property("values", "Half."),),
        misconceptions=(
            Misconception("whole", "It is whole.", lambda x: x),
            Misconception("double", "It is double.", lambda x: 2 * x),
            Misconception("whole again", "It is whole.", lambda x: x * 1),
            Misconception("right", "It is not.", lambda x: 0.5 * x),
        ),
    )


def test_confusion_counts_each_kind_of_diagnosis(toy):
    found = proof.confusion(toy, seeds=(1, 2))
    assert found["names"] == ["whole", "double", "whole again", "right"]
    assert found["counts"] == [
        [0, 0, 0, 0, 2, 0, 0],  # two give the same: several
        [0, 2, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 2],  # not a mistake: passed
    ]


def test_false_alarms_say_what_was_said(toy, monkeypatch):
    answers = {"reference": half, "rounded": lambda x: (x / 2).round(decimals=1)}
    monkeypatch.setattr(proof, "right_answers", lambda exercise: answers)
    found = proof.false_alarms(toy, seeds=3)
    assert found["checks"] == 6 and found["styles"] == ["reference", "rounded"]
    assert [(f["style"], f["seed"]) for f in found["failures"]] == [
        ("rounded", s) for s in (0, 1, 2)
    ]
    assert all("got" in failure["said"] for failure in found["failures"])


@pytest.mark.parametrize(
    ("course", "identifier"),
    [(course, identifier) for course, checks in peer_checks.PEERS.items() for identifier in checks],
)
def test_other_courses_checks_pass_the_reference_and_notice_nonsense(course, identifier):
    peer = peer_checks.PEERS[course][identifier]
    reference = find_exercise(identifier).reference
    assert peer_checks.judge(peer)(reference) == "survived"
    with pytest.raises(Exception):  # noqa: B017 -- which one is the nonsense's business
        peer.check(lambda *args, **kw: 0)


def exercise_like(size, wrong=()):
    counts = [[3 * (i == j) for j in range(size + 3)] for i in range(size)]
    for row, column in wrong:
        counts[row][row] -= 1
        counts[row][column] += 1
    names = [f"mistake {i}" for i in range(size)]
    return {"id": "01.a", "confusion": {"names": names, "counts": counts}}


def squares(svg, color):
    root = ElementTree.fromstring(svg)
    paths = root.iter("{http://www.w3.org/2000/svg}path")
    return sum(p.get("d").count("M") for p in paths if p.get("fill") == figures.COLORS[color])


def test_the_figure_has_a_blue_square_for_each_right_diagnosis_and_a_red_one_elsewhere():
    members = [exercise_like(3), exercise_like(4, wrong=[(0, 1), (2, 6)])]
    other = [{**exercise_like(5), "id": "02.b"}]
    svg = figures.confusion_matrix(members + other).svg
    assert squares(svg, "blue") == 12 and squares(svg, "red") == 2
    texts = [t.text for t in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["Chapter 1: 19 of 21", "1.1", "1.2", "Chapter 2: 15 of 15", "2.1"]
    assert "34 of 36 are on the diagonal" in svg


def test_the_figure_of_the_whole_course_is_small(by_id):
    assert len(figures.confusion_matrix(by_id.values()).svg) < 60_000


def test_the_figure_says_which_counts_are_no_matrix():
    broken = exercise_like(3)
    broken["confusion"]["counts"].pop()
    with pytest.raises(ValueError, match=r"01\.a has counts of shape"):
        figures.confusion_matrix([broken])
