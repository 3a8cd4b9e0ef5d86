"""Results of several runs put together."""

import dataclasses

from course_pkg.grading.results import (
    ExerciseInfo,
    ExerciseResult,
    FileResult,
    Run,
    StudentResult,
    merged,
)

INFOS = {
    exercise_id: ExerciseInfo(exercise_id, exercise_id.title(), "implement", 2, "3.1")
    for exercise_id in ("02.b", "02.a", "03.x", "03.w")
}


def a_run(seed, **points):
    """``a_run(1, ada={"02.a": 2})``"""
    ids = [i for i in INFOS if any(i in own for own in points.values())]
    students = tuple(
        StudentResult(
            name,
            name.title(),
            tuple(FileResult(c, f"{name}/{c}-{seed}") for c in sorted({int(i[:2]) for i in own})),
            {i: ExerciseResult(i, "passed" if own[i] else "failed", own[i], 2) for i in own},
        )
        for name, own in sorted(points.items())
    )
    return Run(seed, "bubblewrap", tuple(INFOS[i] for i in ids), students)


def points_of(run):
    return {s.student: {i: r.points for i, r in s.exercises.items()} for s in run.students}


def test_the_others_keep_what_they_have():
    old = a_run(1, ada={"02.b": 2, "02.a": 0}, ben={"02.b": 2, "02.a": 2})
    new = a_run(2, ada={"02.b": 2, "02.a": 2})
    both = merged(old, new)
    assert points_of(both) == {"ada": {"02.b": 2, "02.a": 2}, "ben": {"02.b": 2, "02.a": 2}}
    assert both.seed == 2
    assert both.students[0].files == new.students[0].files
    assert both.students[1] == old.students[1]


def test_another_chapter_is_added_in_the_courses_order():
    old = a_run(1, ada={"03.x": 2, "03.w": 2})
    both = merged(old, a_run(2, ada={"02.b": 2}, eve={"02.b": 0}))
    assert [e.exercise_id for e in both.exercises] == ["02.b", "03.x", "03.w"]
    assert [list(s.exercises) for s in both.students] == [["02.b", "03.x", "03.w"]] * 2
    assert [file.chapter for file in both.students[0].files] == [2, 3]
    eve = both.students[1]
    assert (eve.exercises["03.x"].status, eve.exercises["03.x"].points) == ("missing", 0)


def test_a_run_merged_with_itself_is_itself():
    run = a_run(1, ada={"02.b": 2, "02.a": 0}, ben={"02.b": 2, "02.a": 2})
    assert merged(run, run) == run
    assert merged(dataclasses.replace(run, students=()), run) == run
