"""Checks that hold recordings in place of solutions: what students get to run.

At release time the reference and the misconceptions are run on the inputs of the learner's own
check, and what they show is written down (``shown_on``). In the students' package ``check`` holds
an answer against that, by the same engine: where it would run the reference or a misconception,
it reads the recording.
"""

import copy
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from course_pkg.checks import engine
from course_pkg.checks.compare import Opaque, difference, plain
from course_pkg.checks.engine import (
    SEED,
    Exercise,
    Inputs,
    Known,
    Misconception,
    Property,
    Raised,
    Recording,
    Report,
    Value,
)
from course_pkg.grading import wire

FOLDER = Path(__file__).parents[1] / "checks" / "recordings"
UNCHECKED = "unchecked.json"  # why an exercise, or a property of it, is not checked here


# The code of one property's check: "observe", "judge" and "cases". Without the first the answer is
# called, without the second it is compared, and without the third the inputs are the recorded ones.
Parts = Mapping[str, Callable[..., Any]]


def shown_on(exercise: Exercise, properties: Sequence[str]) -> bytes:
    """All that a check without solutions must know of an exercise, as a message of ``wire``.

    That is what it says in words, the inputs, and what the reference and the misconceptions show.

    Args:
        exercise: one whose answer is code.
        properties: the names of those that are checked.

    Raises:
        ValueError: something that is shown is no plain data.
    """
    kept = [prop for prop in exercise.properties if prop.name in properties]
    known = Known(exercise, SEED)
    looks: dict[Any, Property] = {}
    alike = {p.name: looks.setdefault((p.observe, p.cases), p).name for p in kept}
    reference = exercise.reference
    facts = {
        "id": exercise.id,
        "title": exercise.title,
        "kind": exercise.kind,
        "points": exercise.points,
        "difficulty": exercise.difficulty,
        "section": exercise.section,
        "hints": exercise.hints,
        "builds_on": exercise.builds_on,
        "name": reference.__name__,
        "is_class": inspect.isclass(reference),
        "parameters": [
            (p.name, p.kind.name, p.default is not p.empty)
            for p in inspect.signature(reference).parameters.values()
        ],
        "properties": [(p.name, p.statement, p.tolerance) for p in kept],
        "misconceptions": [(m.name, m.diagnosis, m.section) for m in exercise.misconceptions],
        "inputs": {p.name: plain(known.cases(p)) for p in kept},
        "same_look": alike,
        # A property with a judge of its own needs no reference to be judged by.
        "expected": {
            p.name: [known.expected(p, number) for number in range(len(known.cases(p)))]
            for p in kept
            if p.judge is None
        },
        "shown": {
            m.name: {p.name: _as_data(known.shown_by(m, p), p) for p in looks.values()}
            for m in exercise.misconceptions
        },
    }
    return wire.encode(facts, opaque=Opaque)


def _as_data(recording: Recording, prop: Property) -> list[tuple[Any, ...]] | None:
    """What was seen; ``None`` where the answer cannot even be called."""
    if recording.problem is not None or not recording.started:
        return None
    return [
        ("value", entry.data)
        if isinstance(entry, Value)
        else ("raised", entry.type_name, entry.message)
        for entry in recording.seen[prop.name]
    ]


def can_play_back(calls: Sequence[Inputs]) -> bool:
    """Whether inputs are the same once they were recorded, also in how they lie in memory."""

    def same(value: Any) -> bool:
        match value:
            case torch.Tensor():
                return value.is_contiguous() and not value.requires_grad
            case list() | tuple() | set() | frozenset():
                return all(map(same, value))
            case Mapping():
                return all(map(same, [*value.keys(), *value.values()]))
        return not isinstance(plain(value), Opaque)

    return same(calls)


def _copied(calls: Sequence[Inputs], _: torch.Generator) -> list[Inputs]:
    return copy.deepcopy(list(calls))


def exercises(
    parts: Mapping[str, Mapping[str, Parts]], axes: Mapping[str, Callable[..., Any]]
) -> tuple[Exercise, ...]:
    """The exercises of a chapter of the students' package.

    Args:
        parts: the code of each property, by the exercise's id and the property's name.
        axes: the exercises' ``axes``, by their ids.
    """
    return tuple(_exercise(_facts(name), own, axes.get(name)) for name, own in parts.items())


def given(chapter: str, name: str) -> Any:
    """What the notebook of a chapter, ``"ch02"``, imports from its checks by this name."""
    return copy.deepcopy(_read(FOLDER / f"{chapter}.given.bin")[name])


def _facts(exercise_id: str) -> dict[str, Any]:
    return _read(FOLDER / f"{exercise_id}.bin")


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    """What a file holds, once for all; it is not to be changed."""
    return wire.decode(path.read_bytes(), opaque=Opaque)


def _exercise(
    facts: Mapping[str, Any], parts: Mapping[str, Parts], axes: Callable[..., Any] | None
) -> Exercise:
    properties = []
    for name, statement, tolerance in facts["properties"]:
        played_back = functools.partial(_copied, facts["inputs"][name])
        own: dict[str, Any] = {"cases": played_back, **parts[name]}
        properties.append(Property(name, statement, tolerance=tolerance, **own))
    return Exercise(
        id=facts["id"],
        title=facts["title"],
        kind=facts["kind"],
        points=facts["points"],
        difficulty=facts["difficulty"],
        section=facts["section"],
        reference=_outline(facts),
        properties=tuple(properties),
        hints=tuple(facts["hints"]),
        builds_on=tuple(facts["builds_on"]),
        misconceptions=tuple(
            Misconception(name, diagnosis, None, section)
            for name, diagnosis, section in facts["misconceptions"]
        ),
        axes=axes,
    )


def _outline(facts: Mapping[str, Any]) -> Callable[..., Any]:
    """A function or class with the name and the parameters that are asked for, and no more."""

    def outline(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{facts['name']} is yours to write.")

    made: Any = type(facts["name"], (), {}) if facts["is_class"] else outline
    made.__name__ = facts["name"]
    made.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                name,
                getattr(inspect.Parameter, kind),
                default=None if has_default else inspect.Parameter.empty,
            )
            for name, kind, has_default in facts["parameters"]
        ]
    )
    return made


class _FromRecordings(Known):
    """What the reference and the misconceptions showed when the release was made."""

    def __init__(self, exercise: Exercise) -> None:
        super().__init__(exercise, SEED)
        self._facts = _facts(exercise.id)

    def expected(self, prop: Property, number: int) -> Any:
        return self._facts["expected"][prop.name][number]

    def shown_by(self, misconception: Misconception, prop: Property) -> Recording:
        shown = self._facts["shown"][misconception.name][self._facts["same_look"][prop.name]]
        if shown is None:
            return Recording({}, problem="it cannot be called")
        entries = (
            Value(rest[0]) if kind == "value" else Raised(rest[0], rest[1]) for kind, *rest in shown
        )
        return Recording({prop.name: tuple(entries)})

    def refuse_other_inputs(self) -> None:
        """Raises ValueError: the inputs are not those that were recorded."""
        for prop in self.exercise.properties:
            recorded = self._facts["inputs"][prop.name]
            if difference(plain(self.cases(prop)), recorded) is not None:
                raise ValueError(
                    f"{self.exercise.id} cannot be checked here: this version of PyTorch draws "
                    "other random numbers than the one that the release was made with."
                )


def evaluate(exercise: Exercise, answer: Any) -> Report:
    """``engine.evaluate`` from recordings.

    Raises:
        ValueError: the inputs are not those that were recorded.
    """
    known = _FromRecordings(exercise)
    known.refuse_other_inputs()
    return engine.evaluate(exercise, answer, known=known)


def check(exercise_id: str, answer: Any, *, hint: int = False) -> None:
    """Hold ``answer`` against an exercise and show what holds: in Jupyter as a table.

    Where nothing here can tell, it says so.

    Args:
        exercise_id: such as ``"03.split_heads"``.
        answer: the function, class or value that the exercise asks for.
        hint: ``True`` adds the first hint to what is said, 2 the first two, and so on.

    Raises:
        ValueError: there is no such exercise (with the nearest ids).
        CheckFailed: the answer does not pass, or there is none yet.
    """
    unchecked = json.loads((FOLDER / UNCHECKED).read_text(encoding="utf-8"))
    if exercise_id in unchecked["exercises"]:
        print(f"{exercise_id}: not checked here. {unchecked['exercises'][exercise_id]}")
        return
    exercise = engine.find_exercise(exercise_id)
    engine.present(exercise, evaluate(exercise, answer), hints=int(hint))
    if exercise_id in unchecked["properties"]:
        names = ", ".join(unchecked["properties"][exercise_id])
        print(f"Looked at only when you hand in: {names}.")
