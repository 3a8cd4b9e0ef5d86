"""The engine behind ``check("03.split_heads", split_heads)``.

An exercise is a declaration; the engine runs the learner's answer, judges what came back, and
says in words what does not hold. Running and judging are separate functions with plain data
between them (``run`` -> ``Recording`` -> ``judge`` -> ``Report``): only ``run`` touches the
learner's code.

How a chapter module is written. ``course_pkg/checks/ch03.py`` holds the exercises whose ids begin
with ``03.`` in one tuple, ``EXERCISES``, in the order of the notebook. One, complete::

    import torch
    from torch import Tensor

    from course_pkg.checks.compare import expect
    from course_pkg.checks.engine import Exercise, Misconception, Property


    def split_heads(x: Tensor, num_heads: int) -> Tensor:        # the reference: it is right, and
        B, T, D = x.shape                                        # its signature is the expected one
        return x.view(B, T, num_heads, D // num_heads).transpose(1, 2)


    def _view_only(x: Tensor, num_heads: int) -> Tensor:         # what people really write
        B, T, D = x.shape
        return x.view(B, num_heads, T, D // num_heads)


    def _inputs(generator: torch.Generator) -> list[tuple]:      # each tuple is one call
        return [
            (torch.randn(2, 5, 8, generator=generator), 4),
            (torch.randn(1, 1, 6, generator=generator), 1),
        ]


    def _seen_by_token(split_heads, x, num_heads):               # observe: calls the answer and
        moved = x.clone()                                        # returns plain data
        moved[:, 0] += 1.0
        return split_heads(x, num_heads), split_heads(moved, num_heads)


    def _only_token_0_moves(seen, x, num_heads):                 # judge: gets that data and the
        before, after = seen                                     # same inputs, raises Failed
        changed = (before != after).any(dim=(0, 1, 3)).tolist()
        expect(not any(changed[1:]), f"tokens that changed: {changed}")


    EXERCISES = (
        Exercise(
            id="03.split_heads",
            title="Split the features into heads",
            kind="implement",
            points=2,
            difficulty=1,
            section="3.2",
            reference=split_heads,
            cases=_inputs,
            properties=(
                Property("values", "Each head gets its own slice of every token's features."),
                Property(
                    "tokens",
                    "A token's features stay with the token.",
                    observe=_seen_by_token,
                    judge=_only_token_0_moves,
                ),
            ),
            hints=("Write down the shape that you have and the shape that you want.",),
            misconceptions=(
                Misconception(
                    "view without transpose",
                    "The view reads the numbers in memory order, so a head mixes several tokens.",
                    _view_only,
                ),
            ),
        ),
    )

The rules:

- A ``Property`` without ``judge`` demands what the reference gives: ``observe`` runs on the
  reference too, and both results are compared (``compare.difference``: shapes, kinds, the first
  differing position; right by another dtype, container or order of operations is right). Without
  ``observe`` it is the call ``answer(*inputs)``. List the property that compares values first.
- ``observe(answer, *inputs)`` is the only place that calls the answer. It returns plain data:
  tensors, numbers, strings, tuples, lists, dictionaries. It may call the answer often, build a
  module, run ``backward`` and return gradients. For a class, build it there, and call
  ``fill_parameters(module)`` so that a right module has the reference's weights.
- ``judge(seen, *inputs)`` never calls the answer. It uses ``expect(condition, message)`` and
  ``expect_close(got, expected, what)``; a message says what was seen, without "wrong".
- ``cases(generator)`` makes the inputs afresh from the generator alone: the same seed gives the
  same inputs. For text: ``random.Random(generator.initial_seed())``. A property may have ``cases``
  of its own. Make every case tell right from wrong: sizes that differ from each other, no zeros.
- The engine seeds and restores every global generator, so an answer may use dropout. It adds a
  property of its own to every exercise in code: the inputs are not changed in place.
- Where the answer is a value (most ``predict`` exercises) ``reference`` is the value, computed and
  not typed wherever it can be, ``cases`` is left out, one ``Property`` without ``observe`` and
  ``judge`` is enough (give it ``tolerance=0.05`` where 5 % off is near enough), and the
  misconceptions are wrong values. The learner hands in the value, or a function without
  parameters that returns it, so that its stub can raise ``NotImplementedError`` as any other;
  ``None`` and ``...`` mean "not started".
- A misconception differs from the reference on the exercise's own cases, and no two give the same.
- Points are a whole number, difficulty is 1 to 3, ``section`` is the book's section that answers
  the exercise, ``builds_on`` names the exercises whose idea it uses.
- ``axes(*inputs)`` gives the size of each axis by its letter, ``{"B": 2, "T": 5, "D": 12, "H": 4,
  "Dh": 3}``: with sizes that differ, a wrong shape is told as "H and Dh are not merged into D".
- A right answer takes a fraction of ``TIME_LIMIT``: all checks together, with the diagnosis of a
  wrong answer, stay under two seconds.
"""

import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import io
import linecache
import pkgutil
import random
import re
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from course_pkg.checks.compare import Failed, Opaque, difference, plain, show, show_inputs
from course_pkg.checks.limits import OutOfTime, Stopwatch, call_within
from course_pkg.checks.progress import record_in_notebook
from course_pkg.checks.render import report_html
from course_pkg.errors import unknown_name

Kind = Literal["implement", "predict", "debug", "measure", "explore"]
Inputs = tuple[Any, ...]

SEED = 20240229  # of the learner's own check; whoever wants fresh inputs passes another
TIME_LIMIT = 10.0  # seconds for all calls of an answer together; a right one needs a fraction
_PRINTED_LIMIT = 2000


def call(answer: Callable[..., Any], *inputs: Any) -> Any:
    """The plainest observation: what the answer returns."""
    return answer(*inputs)


@dataclasses.dataclass(frozen=True)
class Property:
    """Something that a right answer does.

    Attributes:
        name: one or two words, unique in the exercise.
        statement: one sentence that a learner can read.
        observe: ``observe(answer, *inputs)`` runs the answer and returns plain data.
        judge: ``judge(seen, *inputs)`` raises ``Failed`` if that data does not show the property;
            ``None`` compares it with what the reference shows.
        cases: inputs for this property alone; ``None`` takes the exercise's.
        tolerance: how far a value may be off, as a fraction of the largest expected one; ``None``
            follows the dtype.
    """

    name: str
    statement: str
    observe: Callable[..., Any] = call
    judge: Callable[..., None] | None = None
    cases: Callable[[torch.Generator], list[Inputs]] | None = None
    tolerance: float | None = None


@dataclasses.dataclass(frozen=True)
class Misconception:
    """A wrong answer that people really give, with a diagnosis in plain words.

    ``answer`` is what they write: a function, a class or a value, as the exercise asks for.
    ``section`` is the book's section that clears it up, if it is not the exercise's own.
    """

    name: str
    diagnosis: str
    answer: Any
    section: str | None = None


def _no_inputs(generator: torch.Generator) -> list[Inputs]:
    return [()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exercise:
    """What an exercise asks for. See the module's docstring for how one is written.

    Misconceptions are listed in order of likelihood, hints from the faintest to the plainest.
    ``builds_on`` names the exercises whose idea this one uses. ``axes(*inputs)`` gives the size of
    every axis that a shape may have, by its letter: ``{"B": 2, "T": 5, "H": 4, "Dh": 2}``. Shapes
    are then told by their letters too.

    Raises:
        ValueError: a field is not allowed; the message names it.
    """

    id: str
    title: str
    kind: Kind
    points: int
    difficulty: int
    section: str
    reference: Any
    properties: tuple[Property, ...]
    cases: Callable[[torch.Generator], list[Inputs]] = _no_inputs
    hints: tuple[str, ...] = ()
    misconceptions: tuple[Misconception, ...] = ()
    builds_on: tuple[str, ...] = ()
    axes: Callable[..., Mapping[str, int]] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", self.id):
            raise ValueError(f"id={self.id!r} is not allowed: it must look like '03.split_heads'.")
        if self.kind not in get_args(Kind):
            raise unknown_name("kind", self.kind, get_args(Kind))
        if self.points < 1:
            raise ValueError(f"points={self.points} is not allowed: it must be at least 1.")
        if self.difficulty not in (1, 2, 3):
            raise ValueError(f"difficulty={self.difficulty} is not allowed: it must be 1, 2 or 3.")
        names = [p.name for p in self.properties]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{self.id}: properties={names} must be one or more, of unique names.")

    @property
    def chapter(self) -> int:
        """The chapter's number, from the id."""
        return int(self.id[:2])

    @property
    def answer_is_value(self) -> bool:
        """Whether the learner hands in a value and not code."""
        return not callable(self.reference)


# What running the learner's code gives: plain data, nothing of the learner's.


@dataclasses.dataclass(frozen=True)
class Value:
    """A call that returned."""

    data: Any
    changed_inputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Raised:
    """A call that raised, with the learner's own line where there is one.

    ``in_answer`` says that the error was raised in the learner's line itself, and not in
    something that it called. ``out_of_time`` says that the call was stopped, or not begun, because
    the answer had used up its time.
    """

    type_name: str
    message: str
    line_number: int | None = None
    line: str = ""
    in_answer: bool = False
    out_of_time: bool = False

    @property
    def is_stub(self) -> bool:
        """Whether the learner's own line says that there is no answer yet."""
        return self.in_answer and self.type_name == "NotImplementedError"


@dataclasses.dataclass(frozen=True)
class Recording:
    """Everything that was seen of an answer: for each property, one entry for each case.

    ``problem`` is set instead when the answer is not of the kind that can be run at all.
    """

    seen: Mapping[str, tuple[Value | Raised, ...]]
    printed: str = ""
    started: bool = True
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Whether a property holds; if it does not, what was seen."""

    name: str
    statement: str
    message: str | None = None

    @property
    def holds(self) -> bool:
        return self.message is None


@dataclasses.dataclass(frozen=True)
class Report:
    """What the learner, and later the grader, gets to read."""

    exercise_id: str
    status: Literal["passed", "failed", "not started"]
    points: int
    max_points: int
    outcomes: tuple[Outcome, ...] = ()
    problem: str | None = None
    diagnoses: tuple[str, ...] = ()
    printed: str = ""

    @property
    def headline(self) -> str:
        """The exercise and how it went, in one line."""
        if self.status == "not started":
            return f"{self.exercise_id}: not started"
        if self.problem is not None:
            return f"{self.exercise_id}: {self.problem}"
        held = sum(outcome.holds for outcome in self.outcomes)
        total = len(self.outcomes)
        noun = "property holds" if total == 1 else "properties hold"
        points = _count(self.points, "point") if self.status == "passed" else "no points yet"
        return f"{self.exercise_id}: {held} of {total} {noun} ({points})"

    @property
    def introduction(self) -> str:
        """What stands before the diagnoses."""
        one = len(self.diagnoses) == 1
        return "Likely this:" if one else "Likely one of these:"

    def told(self) -> Iterator[tuple[Outcome, str | None]]:
        """Each outcome with its message; one that was already given is named by who had it."""
        first: dict[str, str] = {}
        for outcome in self.outcomes:
            message = outcome.message
            if message in first:
                message = f"the same as for {first[message]}"
            elif message is not None:
                first[message] = outcome.name
            yield outcome, message

    def text(self) -> str:
        """The report in plain text; the same answer always gives the same text."""
        lines = [self.headline]
        if self.diagnoses:
            diagnoses = (f"  {diagnosis}" for diagnosis in self.diagnoses)
            lines += ["", self.introduction, *diagnoses, ""]
        for outcome, message in self.told():
            lines.append(f"  {'✓' if outcome.holds else '✗'} {outcome.name}: {outcome.statement}")
            lines.extend(f"      {line}" for line in (message or "").splitlines())
        if self.printed and self.status == "failed":
            lines += ["", "Your code printed:", *(f"  {x}" for x in self.printed.splitlines())]
        return "\n".join(lines)


class CheckFailed(RuntimeError):  # noqa: N818 -- a learner reads the name
    """An answer does not pass its check. ``report`` says in which way."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback through the engine."""
        return str(self).splitlines()


@dataclasses.dataclass(frozen=True)
class Shown:
    """A report with its hints, as Jupyter may show it."""

    report: Report
    hints: list[str]

    def __str__(self) -> str:
        return "\n".join([self.report.text(), *([""] if self.hints else []), *self.hints])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": report_html(self.report, self.hints)}


def check(exercise_id: str, answer: Any, *, hint: int = False) -> None:
    """Hold ``answer`` against an exercise and show what holds: in Jupyter as a table.

    Args:
        exercise_id: such as ``"03.split_heads"``.
        answer: the function, class or value that the exercise asks for.
        hint: ``True`` adds the first hint to what is said, 2 the first two, and so on.

    Raises:
        ValueError: there is no such exercise (with the nearest ids).
        CheckFailed: the answer does not pass, or there is none yet.
    """
    exercise = find_exercise(exercise_id)
    present(exercise, evaluate(exercise, answer), hints=int(hint))


def present(exercise: Exercise, report: Report, *, hints: int = 0) -> None:
    """Say what a check found, with the first ``hints`` hints: in Jupyter as a table.

    Raises:
        CheckFailed: the answer does not pass, or there is none yet.
    """
    shown = Shown(report, hints_of(exercise, report, hints))
    if in_jupyter():
        from IPython.display import display

        display(shown)
        record_in_notebook(report)
        said = report.headline  # the rest was just shown
    else:
        said = str(shown)
        if report.status == "passed":
            print(said)
    if report.status != "passed":
        raise CheckFailed(said, report)


def evaluate(
    exercise: Exercise,
    answer: Any,
    *,
    seed: int = SEED,
    time_limit: float = TIME_LIMIT,
    known: "Known | None" = None,
) -> Report:
    """Run, judge and diagnose an answer in this process; no global generator is moved.

    ``known`` is of the same exercise and seed: whoever evaluates many answers keeps one.
    """
    with _global_generators(seed):
        recording = run(exercise, answer, seed=seed, time_limit=time_limit)
        known = known or Known(exercise, seed)
        report = judge(exercise, recording, seed=seed, known=known)
        if report.status == "failed" and report.problem is None:
            diagnoses = tuple(tell(exercise, m) for m in recognise(recording, known))
            report = dataclasses.replace(report, diagnoses=diagnoses)
        return report


def run(
    exercise: Exercise, answer: Any, *, seed: int = SEED, time_limit: float = TIME_LIMIT
) -> Recording:
    """Call the learner's code on every case of every property and write down what happens.

    Nothing that it raises gets out, except ``KeyboardInterrupt``. All calls together may take
    ``time_limit`` seconds; what is left of them then is written down as out of time. The global
    generators of ``random``, NumPy and PyTorch are seeded for each call and are afterwards what
    they were.
    """
    looks = looks_of(exercise, seed)
    return record(Form.of(exercise), looks, answer, seed=seed, time_limit=time_limit)


@dataclasses.dataclass(frozen=True)
class Form:
    """How an exercise calls an answer: ``wanted`` says it in words.

    ``required`` counts the arguments that are always given. A value may be handed in by itself.
    """

    wanted: str
    required: int
    is_value: bool = False
    is_class: bool = False

    @classmethod
    def of(cls, exercise: Exercise) -> "Form":
        """The form of an exercise's answers, from its reference."""
        if exercise.answer_is_value:
            return cls("a value, or a function without parameters that returns it", 0, True)
        reference = exercise.reference
        parameters = inspect.signature(reference).parameters.values()
        required = sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)
        names = ", ".join(p.name for p in parameters if p.default is p.empty)
        is_class = inspect.isclass(reference)
        sort = "class" if is_class else "function"
        return cls(f"the {sort} {reference.__name__}({names})", required, is_class=is_class)


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """One way to look at an answer: ``observe(answer, *inputs)`` for each call's inputs.

    ``names`` are those of the inputs. Several properties may judge one look.
    """

    observe: Callable[..., Any]
    names: tuple[str, ...]
    calls: Sequence[Inputs]


def looks_of(exercise: Exercise, seed: int) -> dict[str, Look]:
    """The look of each property, by its name; properties that look alike share one."""
    shared: dict[Any, Look] = {}
    looks = {}
    for prop in exercise.properties:
        key = prop.observe, prop.cases
        if key not in shared:
            names = tuple(_input_names(exercise, prop))
            shared[key] = Look(prop.observe, names, _cases(exercise, prop, seed))
        looks[prop.name] = shared[key]
    return looks


def record(
    form: Form, looks: Mapping[str, Look], answer: Any, *, seed: int, time_limit: float
) -> Recording:
    """``run`` for an answer that is to be looked at in these ways. Needs no exercise."""
    if form.is_value:
        if answer is None or answer is ...:
            return Recording({}, started=False)
        answer = answer if callable(answer) else functools.partial(_itself, answer)
    problem = _unusable(form, answer)
    if problem is not None:
        return Recording({}, problem=problem)
    printed = _Head(_PRINTED_LIMIT)
    budget = _Budget(time_limit)
    by_look: dict[int, tuple[Value | Raised, ...]] = {}
    for look in looks.values():
        if id(look) not in by_look:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                by_look[id(look)] = tuple(
                    _observe(look, answer, inputs, seed, budget) for inputs in look.calls
                )
    seen = {name: by_look[id(look)] for name, look in looks.items()}
    return recording_of(seen, printed.head())


def recording_of(seen: Mapping[str, tuple[Value | Raised, ...]], printed: str) -> Recording:
    """A recording of what was seen; an answer that is a stub everywhere was not started."""
    everything = [entry for entries in seen.values() for entry in entries]
    stub = [isinstance(entry, Raised) and entry.is_stub for entry in everything]
    return Recording(seen, printed, started=not all(stub))


class Known:
    """What the reference and the misconceptions of one exercise show on one seed.

    Each is computed when it is first asked for.
    """

    def __init__(self, exercise: Exercise, seed: int) -> None:
        self.exercise, self.seed = exercise, seed
        self._kept: dict[Any, Any] = {}

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def cases(self, prop: Property) -> list[Inputs]:
        """The inputs of a property. They are handed out as they are: they are not to be changed."""
        return self._once((prop.name, "cases"), lambda: _cases(self.exercise, prop, self.seed))

    def expected(self, prop: Property, number: int) -> Any:
        """What the reference shows on one case of a property, as plain data."""

        def compute() -> Any:
            reference = self.exercise.reference
            if self.exercise.answer_is_value:
                reference = functools.partial(_itself, reference)
            inputs = copy.deepcopy(self.cases(prop)[number])
            with _global_generators(self.seed), torch.enable_grad():
                return plain(prop.observe(reference, *inputs))

        return self._once((prop.name, number), compute)

    def shown_by(self, misconception: Misconception, prop: Property) -> Recording:
        """What a misconception shows of one property."""

        def compute() -> Recording:
            alone = dataclasses.replace(self.exercise, properties=(prop,))
            return run(alone, misconception.answer, seed=self.seed)

        return self._once((misconception.name, prop.name), compute)


def judge(
    exercise: Exercise, recording: Recording, *, seed: int = SEED, known: Known | None = None
) -> Report:
    """Decide from a recording alone which properties hold; ``seed`` is the one it was run with."""
    known = known or Known(exercise, seed)

    def report(status: Literal["passed", "failed", "not started"], **kw: Any) -> Report:
        points = exercise.points if status == "passed" else 0
        return Report(exercise.id, status, points, exercise.points, **kw)

    if not recording.started:
        return report("not started")
    if recording.problem is not None:
        return report("failed", problem=recording.problem)
    outcomes = [
        Outcome(prop.name, prop.statement, _judge_property(prop, recording, known))
        for prop in exercise.properties
    ]
    if not exercise.answer_is_value:
        outcomes.append(_inputs_untouched(recording))
    status: Literal["passed", "failed"] = "passed" if all(o.holds for o in outcomes) else "failed"
    return report(status, outcomes=tuple(outcomes), printed=recording.printed)


def diagnose(exercise: Exercise, recording: Recording, *, seed: int = SEED) -> tuple[str, ...]:
    """What ``recognise`` finds, each in words."""
    return tuple(tell(exercise, m) for m in recognise(recording, Known(exercise, seed)))


def tell(exercise: Exercise, misconception: Misconception) -> str:
    """A misconception's name, its diagnosis and the section that clears it up."""
    section = misconception.section or exercise.section
    return f"{misconception.name}. {misconception.diagnosis} See section {section}."


def recognise(recording: Recording, known: Known) -> list[Misconception]:
    """The misconceptions that show exactly what the recording shows, the likeliest first.

    Where there is none, those that show the same wherever the learner's answer and theirs both
    returned: one mistake may be written so that it also fails on an odd input.
    """
    exercise = known.exercise
    runs = [(m, _run_while_same(m, recording, known)) for m in exercise.misconceptions]
    theirs = [(m, seen) for m, seen in runs if seen is not None]
    same = [m for m, seen in theirs if _same_seen(exercise, recording, seen)]
    return same or [m for m, seen in theirs if _same_where_both_returned(recording, seen, known)]


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise of this id; only its own chapter's module is loaded.

    Raises:
        ValueError: there is none (with the nearest ids).
    """
    chapter = f"ch{str(exercise_id).partition('.')[0]}"
    known = load_chapter(chapter) if chapter in chapters() else all_exercises()
    for exercise in known:
        if exercise.id == exercise_id:
            return exercise
    raise unknown_name("exercise", exercise_id, [exercise.id for exercise in known])


def all_exercises() -> tuple[Exercise, ...]:
    """Every exercise of the course, chapter by chapter, in the order of the notebooks."""
    return tuple(exercise for chapter in chapters() for exercise in load_chapter(chapter))


def fill_parameters(module: nn.Module, scale: float = 0.5) -> nn.Module:
    """Give every parameter values that depend on its name and shape alone; returns ``module``.

    Two modules with the same parameters then compute the same, however each was initialised.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(values.to(parameter.dtype))
    return module


def _itself(value: Any) -> Any:
    return value


def chapters() -> list[str]:
    """The modules of the chapters that have exercises, such as ``"ch03"``."""
    folder = [str(Path(__file__).parent)]
    names = (module.name for module in pkgutil.iter_modules(folder))
    return sorted(name for name in names if re.fullmatch(r"ch\d\d", name))


def load_chapter(chapter: str) -> tuple[Exercise, ...]:
    """The exercises of a chapter's module; importing it moves no global generator."""
    with _global_generators(SEED):  # a chapter may compute what it expects with random weights
        return importlib.import_module(f"course_pkg.checks.{chapter}").EXERCISES


def _cases(exercise: Exercise, prop: Property, seed: int) -> list[Inputs]:
    return draw(prop.cases or exercise.cases, seed)


def draw(cases: Callable[[torch.Generator], list[Inputs]], seed: int) -> list[Inputs]:
    """The inputs that ``cases`` makes from a seed."""
    with _global_generators(seed):
        return cases(torch.Generator().manual_seed(seed))


def _input_names(exercise: Exercise, prop: Property) -> list[str]:
    if exercise.answer_is_value:
        return []
    if prop.observe is call:
        return list(inspect.signature(exercise.reference).parameters)
    return list(inspect.signature(prop.observe).parameters)[1:]


def _unusable(form: Form, answer: Any) -> str | None:
    """Why the answer cannot be called as the exercise calls it, in one line."""
    if not form.is_value and (
        not callable(answer) or (form.is_class and isinstance(answer, nn.Module))
    ):
        return f"expected {form.wanted}, got {show(plain(answer))}."
    try:
        signature = inspect.signature(answer)
    except Exception:  # some built-in functions do not tell, and a learner's object may do anything
        return None
    try:
        signature.bind(*[None] * form.required)
    except TypeError:
        name = getattr(answer, "__name__", type(answer).__name__)
        theirs = ", ".join(str(p).partition(":")[0] for p in signature.parameters.values())
        return f"expected {form.wanted}, but yours takes {name}({theirs})."
    return None


class _Budget:
    """What is left of an answer's time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def spend(self, function: Callable[[], Any]) -> Any:
        watch = Stopwatch()
        try:
            return call_within(self._left, function)
        finally:
            self._left -= watch.seconds()


def _observe(look: Look, answer: Any, inputs: Inputs, seed: int, budget: _Budget) -> Value | Raised:
    if budget.is_spent:
        return _out_of_time(budget)
    before = plain(inputs)
    try:
        with _global_generators(seed), torch.enable_grad():
            data = budget.spend(lambda: plain(look.observe(answer, *inputs)))
    except KeyboardInterrupt:
        raise
    except OutOfTime as error:
        return _out_of_time(budget, error)
    except BaseException as error:  # a learner may raise anything
        return raised_by(error)
    named = len(look.names) == len(inputs)
    labels = look.names if named else [f"{i + 1}" for i in range(len(inputs))]
    changed = (
        name
        for name, old, new in zip(labels, before, inputs, strict=True)
        if _was_changed(old, new)
    )
    return Value(data, tuple(changed))


def _was_changed(before: Any, now: Any) -> bool:
    try:
        return difference(plain(now), before, tolerance=0.0) is not None
    except Exception:  # it is no longer plain data, such as a list that now holds itself
        return True


def _out_of_time(budget: _Budget, error: BaseException | None = None) -> Raised:
    message = f"still running after {budget.seconds:g} seconds"
    if error is None:
        return Raised("OutOfTime", message, out_of_time=True)
    stopped = raised_by(error)
    return dataclasses.replace(stopped, message=message, out_of_time=True)


def raised_by(error: BaseException) -> Raised:
    """The error as plain data, with the last line of its traceback that is not a library's."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    try:
        message = str(error).partition("\n")[0]
    except Exception:  # an error class of the learner's own
        message = ""
    if len(message) > 300:
        message = f"{message[:297]}..."
    theirs = [frame for frame in frames if not _is_library(frame[0])]
    if not theirs:
        return Raised(type(error).__name__, message)
    path, number = theirs[-1]
    line = linecache.getline(path, number).strip()
    return Raised(type(error).__name__, message, number, line, theirs[-1] is frames[-1])


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(Path(__file__).parents[1])
    return tuple(str(folder.resolve()) for folder in folders)


def _is_library(path: str) -> bool:
    if path.startswith("<frozen"):
        return True
    return str(Path(path).resolve()).startswith(_library_folders())


def _judge_property(prop: Property, recording: Recording, known: Known) -> str | None:
    """What was seen where the property does not hold; ``None`` where it holds."""
    exercise = known.exercise
    names = _input_names(exercise, prop)
    entries = recording.seen[prop.name]
    for number, (entry, inputs) in enumerate(zip(entries, known.cases(prop), strict=True)):
        where = f" on {show_inputs(names, inputs)}" if inputs else ""
        if isinstance(entry, Raised):
            return _say_raised(entry, where)
        try:
            if prop.judge is not None:
                prop.judge(entry.data, *inputs)
            else:
                axes = _axes(exercise, inputs)
                _compare(prop, entry.data, known.expected(prop, number), axes)
        except Failed as failure:
            return f"{failure}{where}"
        except Exception:  # the data is not of the kind or shape that the property reads
            return f"cannot be told from {show(entry.data)}{where}"
    return None


def _axes(exercise: Exercise, inputs: Inputs) -> Mapping[str, int] | None:
    if exercise.axes is None:
        return None
    try:
        return exercise.axes(*inputs)
    except Exception:  # a property's own inputs may be others than the exercise's
        return None


def _compare(prop: Property, data: Any, expected: Any, axes: Mapping[str, int] | None) -> None:
    if data is None and expected is not None:
        raise Failed("got None: is a return missing?")
    found = difference(data, expected, tolerance=prop.tolerance, axes=axes)
    if found is not None:
        raise Failed(found)


def _say_raised(entry: Raised, where: str) -> str:
    line = f": {entry.line}" if entry.line else ""
    if entry.out_of_time:
        if entry.line_number is None:
            return f"not tried: the check stopped your code earlier, {entry.message}"
        said = f"your code was {entry.message}{where}; does a loop never end?"
        return f"{said}\nline {entry.line_number}{line}"
    error = f"{entry.type_name}: {entry.message}" if entry.message else entry.type_name
    if entry.line_number is None:
        return f"{error}\nraised when your answer was used{where}"
    return f"your code raised {error}{where}\nline {entry.line_number}{line}"


def _inputs_untouched(recording: Recording) -> Outcome:
    statement = "The inputs are left as they were."
    entries = [entry for entries in recording.seen.values() for entry in entries]
    changed = [name for e in entries if isinstance(e, Value) for name in e.changed_inputs]
    message = None
    if changed:
        message = f"{changed[0]} was changed in place: whoever called you may still need it"
    elif any(isinstance(entry, Raised) for entry in entries):
        message = "cannot be told: a call ended with an error"
    return Outcome("inputs", statement, message)


def _run_while_same(misconception: Misconception, one: Recording, known: Known) -> Recording | None:
    """The misconception's recording, or ``None`` as soon as it returns something else."""
    seen: dict[str, tuple[Value | Raised, ...]] = {}
    for prop in known.exercise.properties:
        part = known.shown_by(misconception, prop)
        if part.problem is not None:
            return None
        seen[prop.name] = part.seen[prop.name]
        for a, b in zip(one.seen[prop.name], seen[prop.name], strict=True):
            returned = isinstance(a, Value) and isinstance(b, Value)
            if returned and not _same_entry(a, b, prop.tolerance):
                return None
    return Recording(seen)


def _same_seen(exercise: Exercise, one: Recording, other: Recording) -> bool:
    """Whether two answers cannot be told apart by the exercise's own observations."""
    if other.problem is not None or not other.started:
        return False
    return all(
        _same_entry(a, b, prop.tolerance)
        for prop in exercise.properties
        for a, b in zip(one.seen[prop.name], other.seen[prop.name], strict=True)
    )


def _same_where_both_returned(one: Recording, other: Recording, known: Known) -> bool:
    """Equal where both returned, with at least one failing property to tell it by."""
    if other.problem is not None or not other.started:
        return False
    telling = False
    for prop in known.exercise.properties:
        pairs = list(zip(one.seen[prop.name], other.seen[prop.name], strict=True))
        returned = [(a, b) for a, b in pairs if isinstance(a, Value) and isinstance(b, Value)]
        if not all(_same_entry(a, b, prop.tolerance) for a, b in returned):
            return False
        if len(returned) == len(pairs):
            telling |= _judge_property(prop, one, known) is not None
    return telling


def _same_entry(a: Value | Raised, b: Value | Raised, tolerance: float | None) -> bool:
    match a, b:
        case Raised(), Raised():
            return (a.type_name, a.message) == (b.type_name, b.message)
        case Value(), Value():
            opaque = isinstance(a.data, Opaque)
            return not opaque and difference(a.data, b.data, tolerance=tolerance) is None
    return False


def hints_of(exercise: Exercise, report: Report, wanted: int) -> list[str]:
    """The hints that a learner asked for, and how to ask for the next."""
    if report.status == "passed" or not exercise.hints:
        return []
    total = len(exercise.hints)
    shown = min(max(wanted, 0), total)
    lines = [f"Hint {i + 1} of {total}: {exercise.hints[i]}" for i in range(shown)]
    if shown < total:
        argument = "hint=True" if shown == 0 else f"hint={shown + 1}"
        which = "a hint" if shown == 0 else "the next hint"
        lines.append(f"For {which}, add {argument} to the check.")
    return lines


def in_jupyter() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class _Head(io.StringIO):
    """Keeps the beginning of what is written and counts the rest."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit
        self._dropped = 0

    def write(self, text: str) -> int:
        kept = text[: self._left]
        self._left -= len(kept)
        self._dropped += len(text) - len(kept)
        super().write(kept)
        return len(text)

    def head(self) -> str:
        """What was kept, and how much was not."""
        more = f"\n... and {self._dropped:,} characters more" if self._dropped else ""
        return self.getvalue() + more


@contextlib.contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """Seed every global generator, and put back its state at the end."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    # Asking for the state of a GPU that is not in use yet would start it.
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.random.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002
