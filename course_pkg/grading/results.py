"""What a grading run found: plain facts, as ``grades.json`` holds them.

Everything here may hold text that a student wrote. It is escaped where it is shown.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

FORMAT = 1  # of grades.json

# passed: every property holds. failed: at least one does not, or there is nothing to judge.
# not started: the stub is still there. missing: the notebook has no such cell.
# refused: the file cannot be read, or is not allowed.
Status = Literal["passed", "failed", "not started", "missing", "refused"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Whether one property holds. ``message`` says what was seen, on inputs that students have."""

    name: str
    statement: str
    holds: bool
    message: str | None = None


@dataclasses.dataclass(frozen=True)
class ExerciseResult:
    """What one exercise of one student earned, and why.

    Attributes:
        points: what the checks give; a manual mark is kept apart.
        problem: one or two lines where there is nothing to judge: the cell raised, ran out of
            time, ended its process, or sent what is no answer.
        diagnoses: sentences, the likeliest misconception first; ``misconceptions`` their names.
        hints: all hints of an exercise that did not pass.
        printed: what the code printed on inputs that students have.
        oddities: what the grader noticed about the cells.
        unsandboxed: the code ran without a sandbox.
        seconds: of wall time that the exercise took; differs from run to run.
    """

    exercise_id: str
    status: Status
    points: int
    max_points: int
    findings: tuple[Finding, ...] = ()
    problem: str | None = None
    diagnoses: tuple[str, ...] = ()
    misconceptions: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    printed: str = ""
    oddities: tuple[str, ...] = ()
    unsandboxed: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ExerciseResult":
        fields = dict(data)
        fields["findings"] = tuple(Finding(**finding) for finding in data["findings"])
        for name in ("diagnoses", "misconceptions", "hints", "oddities"):
            fields[name] = tuple(data[name])
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class FileResult:
    """The file that counted for one chapter.

    Attributes:
        file: its path below the submissions' folder; within a zip, ``batch.zip!inner/path.ipynb``.
        attempt: which of ``attempts`` it is, counted from 1: the latest.
        submitted: when it was handed in, ISO 8601, or ``None`` where nothing says so.
        oddities: a line for each thing that was odd about the file or its cells.
    """

    chapter: int
    file: str
    attempt: int = 1
    attempts: int = 1
    submitted: str | None = None
    oddities: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FileResult":
        return cls(**{**data, "oddities": tuple(data["oddities"])})


@dataclasses.dataclass(frozen=True)
class StudentResult:
    """One student: a result for each exercise that was graded, in the course's order.

    ``student`` is the id, safe as a file's name; ``name`` is what to show.
    """

    student: str
    name: str
    files: tuple[FileResult, ...]
    exercises: Mapping[str, ExerciseResult]

    def to_dict(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "name": self.name,
            "files": [file.to_dict() for file in self.files],
            "exercises": {key: value.to_dict() for key, value in self.exercises.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StudentResult":
        return cls(
            student=data["student"],
            name=data["name"],
            files=tuple(FileResult.from_dict(file) for file in data["files"]),
            exercises={
                key: ExerciseResult.from_dict(value) for key, value in data["exercises"].items()
            },
        )


@dataclasses.dataclass(frozen=True)
class ExerciseInfo:
    """What reports say of an exercise itself."""

    exercise_id: str
    title: str
    kind: str
    points: int
    section: str

    @property
    def chapter(self) -> int:
        return int(self.exercise_id[:2])


@dataclasses.dataclass(frozen=True)
class Run:
    """A whole grading run.

    Attributes:
        seed: of the hidden inputs.
        sandbox: ``"bubblewrap"``, ``"docker"``, ``"podman"`` or ``"unsandboxed"``.
        not_covered: what this sandbox does not stop, in words.
        exercises: what was graded, in the course's order.
        students: sorted by id.
        oddities: about files that belong to no student.
    """

    seed: int
    sandbox: str
    exercises: tuple[ExerciseInfo, ...]
    students: tuple[StudentResult, ...]
    oddities: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "seed": self.seed,
            "sandbox": self.sandbox,
            "not_covered": list(self.not_covered),
            "exercises": [dataclasses.asdict(exercise) for exercise in self.exercises],
            "students": [student.to_dict() for student in self.students],
            "oddities": list(self.oddities),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Run":
        """Raises ValueError: the format is another one."""
        if data.get("format") != FORMAT:
            raise ValueError(f"format={data.get('format')!r} is unknown: this reads {FORMAT}.")
        return cls(
            seed=data["seed"],
            sandbox=data["sandbox"],
            not_covered=tuple(data["not_covered"]),
            exercises=tuple(ExerciseInfo(**exercise) for exercise in data["exercises"]),
            students=tuple(StudentResult.from_dict(student) for student in data["students"]),
            oddities=tuple(data["oddities"]),
        )


def merged(old: Run, new: Run) -> Run:
    """``new``, with what ``old`` has of other students and other chapters.

    A file, and each exercise's result, is the new run's where it has one.
    """
    known = {student.student: student for student in old.students}
    infos = {e.exercise_id: e for e in (*old.exercises, *new.exercises)}
    order = sorted(infos, key=lambda exercise_id: (exercise_id[:2], _place(exercise_id, old, new)))
    students = dict(known)
    for student in new.students:
        before = known.get(student.student)
        if before is not None:
            chapters = {file.chapter for file in student.files}
            kept = tuple(file for file in before.files if file.chapter not in chapters)
            files = tuple(sorted((*kept, *student.files), key=lambda file: file.chapter))
            exercises = {**before.exercises, **student.exercises}
            student = StudentResult(student.student, student.name, files, exercises)
        students[student.student] = student
    whole = tuple(
        dataclasses.replace(
            student,
            exercises={
                exercise_id: student.exercises.get(
                    exercise_id,
                    ExerciseResult(exercise_id, "missing", 0, infos[exercise_id].points),
                )
                for exercise_id in order
            },
        )
        for _, student in sorted(students.items())
    )
    oddities = tuple(dict.fromkeys((*old.oddities, *new.oddities)))
    graded = tuple(infos[exercise_id] for exercise_id in order)
    return dataclasses.replace(new, exercises=graded, students=whole, oddities=oddities)


def _place(exercise_id: str, *runs: Run) -> int:
    """The place of an exercise in the first of the runs that has it."""
    for run in runs:
        ids = [exercise.exercise_id for exercise in run.exercises]
        if exercise_id in ids:
            return ids.index(exercise_id)
    raise ValueError(f"exercise_id={exercise_id!r} is in none of the runs.")
