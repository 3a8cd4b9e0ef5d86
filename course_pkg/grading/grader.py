"""Grading: every exercise of every student is run in a sandbox and judged here.

An answer is run on inputs that nobody has seen, and what it earned is decided by what came back.
Where that fails, it is run once more, in another process, on the inputs of the learner's own check:
only what that shows is told. So no feedback can hold a hidden input, whatever the code prints.
"""

import contextlib
import dataclasses
import importlib.util
import queue
import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_pkg.checks import engine
from course_pkg.checks.compare import Opaque
from course_pkg.checks.engine import Exercise, Known, Property, Raised, Recording, Report, Value
from course_pkg.checks.limits import OutOfTime, call_within
from course_pkg.errors import unknown_name
from course_pkg.grading import orders, sandbox, wire
from course_pkg.grading.journal import Journal, digest
from course_pkg.grading.results import (
    ExerciseInfo,
    ExerciseResult,
    FileResult,
    Finding,
    Run,
    StudentResult,
)
from course_pkg.grading.sandbox import Broken, Kind, Limits, NotStarted, Reply, Sandbox
from course_pkg.grading.submissions import Collected, Submission, collect

Runner = Callable[[bytes], Reply]
_JUDGE_LIMIT = 30.0  # seconds for judging one reply; a right one takes a tenth of one
_EXTRAS = 400_000  # characters of a student's other cells that go along
_PUBLIC_HOLDS = "it holds on the inputs of your own check, but not on others: is a value fixed?"
_NOT_SHOWN = "it does not hold on inputs that are not shown"


# Exercises


def exercises_of(chapters: Collection[int] = (), hidden: Path | None = None) -> list[Exercise]:
    """The exercises of some chapters, or of all, with an instructor's own properties.

    Raises:
        ValueError: a chapter has none; or a file of ``hidden`` is not as it should be.
    """
    every = list(engine.all_exercises())
    known = sorted({exercise.chapter for exercise in every})
    for chapter in chapters:
        if chapter not in known:
            allowed = ", ".join(map(str, known))
            raise ValueError(f"chapter={chapter} has no exercises. Allowed: {allowed}.")
    extra = {} if hidden is None else read_hidden(hidden)
    for exercise_id in extra:
        if exercise_id not in {exercise.id for exercise in every}:
            raise unknown_name("hidden exercise", exercise_id, [e.id for e in every])
    return [
        dataclasses.replace(e, properties=(*e.properties, *_hidden_properties(e, extra)))
        for e in every
        if not chapters or e.chapter in chapters
    ]


def read_hidden(folder: Path) -> dict[str, list[tuple[str, str, Any]]]:
    """An instructor's own cases by exercise: a name, the property they are for, and ``cases``.

    Each ``.py`` file of the folder holds ``CASES``, a list of ``(exercise id, name, property,
    cases)``: ``cases(generator)`` makes the inputs, as in ``Exercise``, and the named property of
    the exercise must hold on them too. The files are run: they are the instructor's own.

    Raises:
        ValueError: there is no such file, or one does not hold that.
    """
    files = sorted(folder.glob("*.py"))
    if not files:
        raise ValueError(f"--hidden={folder} holds no .py file with CASES.")
    found: dict[str, list[tuple[str, str, Any]]] = {}
    for number, path in enumerate(files):
        spec = importlib.util.spec_from_file_location(f"_hidden_{number}", path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path} cannot be read as Python.")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            for exercise_id, name, property_name, cases in module.CASES:
                found.setdefault(exercise_id, []).append((name, property_name, cases))
        except Exception as error:
            raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    return found


def _hidden_properties(
    exercise: Exercise, extra: Mapping[str, list[tuple[str, str, Any]]]
) -> Iterator[Property]:
    by_name = {prop.name: prop for prop in exercise.properties}
    for name, property_name, cases in extra.get(exercise.id, ()):
        if property_name not in by_name:
            raise unknown_name(f"the property of {exercise.id}", property_name, by_name)
        if exercise.answer_is_value:
            raise ValueError(f"{exercise.id} asks for a value: it has no inputs to hide.")
        yield dataclasses.replace(by_name[property_name], name=f"hidden: {name}", cases=cases)


# One exercise


class Examiner:
    """Runs and judges answers.

    Args:
        exercises: what may be examined.
        pages: of these exercises.
        seed: of the hidden inputs.
        time_limit: seconds for all calls of an answer.
        cell_limit: seconds for its cell.
    """

    def __init__(
        self,
        exercises: Sequence[Exercise],
        pages: Mapping[str, orders.Page],
        seed: int,
        *,
        time_limit: float = engine.TIME_LIMIT,
        cell_limit: float = orders.CELL_LIMIT,
    ) -> None:
        self.exercises = {exercise.id: exercise for exercise in exercises}
        self._pages = pages
        self._seed = seed
        self._limits = Limits.around(cell_limit, time_limit)
        limits = {"time_limit": time_limit, "cell_limit": cell_limit}
        # What students see is told by the exercise as they have it, without hidden properties.
        self._shown = {e.id: engine.find_exercise(e.id) for e in exercises}
        self._desks = orders.Desk(pages, **limits), orders.Desk(pages, **limits)
        self._known: dict[tuple[str, bool], Known] = {}
        # Judging moves PyTorch's global generator, and what is known is shared.
        self._lock = threading.Lock()

    @property
    def limits(self) -> Limits:
        """What the sandbox is to allow for an order of this examiner."""
        return self._limits

    def examine(
        self, exercise_id: str, cell: str, extras: Sequence[str], run: Runner
    ) -> ExerciseResult:
        """What a cell earns, and why.

        Args:
            exercise_id: one of the examiner's.
            cell: the student's code.
            extras: the student's other cells, where a helper may be.
            run: carries out an order in a sandbox.

        Raises:
            Broken: the sandbox does not work.
        """
        exercise = self.exercises[exercise_id]
        extras = _within(extras, _EXTRAS)
        verdict = self._look(exercise, cell, extras, run, public=False)
        if verdict.report is not None and verdict.report.status == "passed":
            return self._result(exercise, verdict, None)
        if verdict.problem == sandbox.LATE:  # it would wait as long again, and tell nothing
            return self._result(exercise, verdict, _Look(problem=sandbox.LATE))
        told = self._look(exercise, cell, extras, run, public=True)
        return self._result(exercise, verdict, told)

    def is_stub(self, exercise_id: str, cell: str) -> bool:
        """Whether a cell is as it was handed out."""
        return _lines(cell) == _lines(self._pages[exercise_id].stub)

    def _look(
        self, exercise: Exercise, cell: str, extras: Sequence[str], run: Runner, *, public: bool
    ) -> "_Look":
        seed = engine.SEED if public else self._seed
        asked = self._shown[exercise.id] if public else exercise
        desk = self._desks[public]
        try:
            with self._lock:
                order = desk.order(asked, seed, cell, extras)
        except ValueError:
            return _Look(problem="its cell is too large")
        reply = run(order)
        look = _Look(seconds=reply.seconds)
        if not reply.content:
            return dataclasses.replace(look, problem=reply.ended or "it sent nothing back")
        with self._lock:
            try:
                read = call_within(
                    _JUDGE_LIMIT, lambda: self._judge(asked, seed, reply.content, public)
                )
            except orders.Faulty:
                return dataclasses.replace(look, problem="its cell left Python unfit to go on")
            except wire.Malformed:
                return dataclasses.replace(look, problem="what it sent back is no answer")
            except (OutOfTime, MemoryError, RuntimeError, OverflowError):
                return dataclasses.replace(look, problem="what it returned is too much to judge")
        return dataclasses.replace(read, seconds=reply.seconds)

    def _judge(self, exercise: Exercise, seed: int, content: bytes, public: bool) -> "_Look":
        seen = self._desks[public].read(exercise, seed, content)
        if seen.recording is None:
            stub = seen.error is not None and seen.error.is_stub
            return _Look(error=seen.error, oddities=seen.oddities, stub=stub)
        key = exercise.id, public
        if key not in self._known:
            self._known[key] = Known(exercise, seed)
        known = self._known[key]
        recording = _within_bounds(seen.recording, known)
        report = engine.judge(exercise, recording, seed=seed, known=known)
        found: list[engine.Misconception] = []
        if report.status == "failed" and report.problem is None:
            # What came back may be odder than any misconception: then it is none of them.
            with contextlib.suppress(Exception):
                found = engine.recognise(recording, known)
        stub = report.status == "not started" and (seen.error is None or seen.error.is_stub)
        late = any(
            isinstance(entry, Raised) and entry.out_of_time
            for entries in seen.recording.seen.values()
            for entry in entries
        )
        return _Look(report, tuple(found), seen.error, seen.oddities, stub=stub, late=late)

    def _result(self, exercise: Exercise, verdict: "_Look", told: "_Look | None") -> ExerciseResult:
        result = ExerciseResult(exercise.id, "failed", 0, exercise.points)
        if told is None:
            findings = _findings(verdict.report, None)
            return dataclasses.replace(
                result,
                status="passed",
                points=exercise.points,
                findings=findings,
                seconds=verdict.seconds,
            )
        seconds = verdict.seconds + told.seconds
        if verdict.stub:
            return dataclasses.replace(
                result, status="not started", hints=exercise.hints, seconds=seconds
            )
        named = verdict.misconceptions or told.misconceptions
        return dataclasses.replace(
            result,
            findings=_findings(verdict.report, told.report),
            problem=_problem(verdict, told),
            diagnoses=tuple(engine.tell(exercise, m) for m in named),
            misconceptions=tuple(m.name for m in named),
            hints=exercise.hints,
            printed=told.report.printed if told.report is not None else "",
            oddities=told.oddities,
            seconds=seconds,
        )


@dataclasses.dataclass(frozen=True)
class _Look:
    """What one run of an answer showed."""

    report: Report | None = None
    misconceptions: tuple[engine.Misconception, ...] = ()
    error: Raised | None = None
    oddities: tuple[str, ...] = ()
    problem: str | None = None
    stub: bool = False
    late: bool = False
    seconds: float = 0.0


def _within_bounds(recording: Recording, known: Known) -> Recording:
    """The recording without what is far larger than what a right answer shows.

    A judge may compare each with each: what it reads must be bounded, since it runs here.
    """
    seen = dict(recording.seen)
    for prop in known.exercise.properties:
        if prop.judge is not None and prop.name in seen:
            seen[prop.name] = tuple(
                Value(Opaque("a much larger value than is asked for"), entry.changed_inputs)
                if isinstance(entry, Value)
                and _size(entry.data) > 2 * _size(known.expected(prop, number)) + 64
                else entry
                for number, entry in enumerate(seen[prop.name])
            )
    return dataclasses.replace(recording, seen=seen)


def _size(data: Any) -> int:
    """How many numbers plain data holds; a text counts little, nothing compares each with each."""
    if isinstance(data, torch.Tensor):
        return data.numel()
    if isinstance(data, np.ndarray):
        return data.size
    if isinstance(data, str | bytes):
        return 1 + len(data) // 1000
    if isinstance(data, dict):
        return sum(_size(key) + _size(value) for key, value in data.items())
    if isinstance(data, list | tuple | set | frozenset):
        return sum(map(_size, data))
    return 1


def _problem(verdict: _Look, told: _Look) -> str | None:
    """Why there is nothing to judge. All words that may be the student's come from ``told``."""
    if told.problem is not None:
        return told.problem
    lines = []
    if told.error is not None:
        lines.append(f"its cell {_say(told.error)}")
    if told.report is None:
        return "\n".join(lines) or "its cell does not define what the check takes"
    if told.report.problem is not None:
        lines.append(told.report.problem)
    elif verdict.problem is not None:
        lines.append(f"on the grader's inputs {verdict.problem}")
    elif verdict.report is None or verdict.report.problem is not None:
        lines.append("on the grader's inputs there was no answer to look at")
    elif verdict.late and not told.late:
        lines.append("on the grader's inputs it took too long")
    return "\n".join(lines) or None


def _say(error: Raised) -> str:
    if error.out_of_time:
        text = f"was stopped: {error.message}"
    else:
        text = f"raises {error.type_name}: {error.message}".removesuffix(": ")
    if error.line_number is None:
        return text
    return f"{text}\nline {error.line_number}: {error.line}".removesuffix(": ")


def _findings(verdict: Report | None, told: Report | None) -> tuple[Finding, ...]:
    """Each property: whether it holds is the verdict's, what was seen is of the public run."""
    if verdict is None:
        return ()
    shown = {} if told is None else {outcome.name: outcome for outcome in told.outcomes}
    findings = []
    for outcome in verdict.outcomes:
        message = None
        if not outcome.holds:
            public = shown.get(outcome.name)
            if public is None:
                message = _NOT_SHOWN
            else:
                message = _PUBLIC_HOLDS if public.holds else public.message
        findings.append(Finding(outcome.name, outcome.statement, outcome.holds, message))
    return tuple(findings)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _within(texts: Sequence[str], size: int) -> list[str]:
    kept = []
    for text in texts:
        size -= len(text)
        if size < 0:
            break
        kept.append(text)
    return kept


# A class


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is; ``student`` and ``exercise_id`` are those of the last result."""

    exercises: int
    of_exercises: int
    students: int
    of_students: int
    student: str = ""
    exercise_id: str = ""


@dataclasses.dataclass(frozen=True)
class _Task:
    student: str
    exercise_id: str
    cell: str
    extras: tuple[str, ...]
    oddities: tuple[str, ...]

    @property
    def of(self) -> str:
        return digest(self.cell, repr(self.oddities), *self.extras)


def grade(
    submissions: Path,
    out: Path,
    *,
    solutions: Path = Path("solutions"),
    jobs: int = 2,
    students: Collection[str] = (),
    chapters: Collection[int] = (),
    resume: bool = False,
    seed: int | None = None,
    hidden: Path | None = None,
    kind: Kind | None = None,
    runners: Sequence[Runner] = (),
    time_limit: float = engine.TIME_LIMIT,
    cell_limit: float = orders.CELL_LIMIT,
    on_progress: Callable[[Progress], None] | None = None,
    report: Callable[[Run, Collected], None] | None = None,
) -> Run:
    """Grade what a class handed in, and keep a journal of it in ``out``.

    Args:
        submissions: the folder of what was handed in.
        out: the folder of the grades.
        solutions: the course's solutions.
        jobs: sandboxes at the same time. The grades do not depend on it.
        students: only these, by id.
        chapters: only these.
        resume: go on with the run in ``out``.
        seed: of the hidden inputs; by default another one each time.
        hidden: a folder with an instructor's own cases, see ``read_hidden``.
        kind: the sandbox, from ``sandbox.find``, which is asked if it is left out.
        runners: carry out orders instead of sandboxes of this machine, one for each job.
        time_limit: seconds for all calls of an answer.
        cell_limit: seconds for a cell.
        on_progress: called with how far it is, after each exercise.
        report: called with the result before the journal says that the run is finished.

    Raises:
        ValueError: an argument does not fit, there is no sandbox, or another grader is at work.
        OSError: a file cannot be read or written.
        Broken: the sandbox ceased to work. ``resume`` goes on.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs} is not allowed: it must be 1 or more.")
    exercises = exercises_of(chapters, hidden)
    ids: dict[int, list[str]] = {}
    for exercise in exercises:
        ids.setdefault(exercise.chapter, []).append(exercise.id)
    collected = collect(submissions, ids, only_chapters=chapters, students=students)
    pages = orders.pages(solutions)
    if seed is None:
        seed = _seed_of(out) if resume else None
    if seed is None:
        seed = secrets.randbelow(2**31)
    kind = kind or sandbox.find()
    run_of = {
        "seed": seed,
        "time_limit": time_limit,
        "cell_limit": cell_limit,
        "sandbox": kind.name,
        "exercises": _digest_of(exercises, pages, hidden),
    }
    examiner = Examiner(exercises, pages, seed, time_limit=time_limit, cell_limit=cell_limit)
    tasks, settled = _tasks(examiner, collected)
    with Journal(out, run_of, resume=resume) as journal:
        results = dict(settled)
        todo = []
        for task in tasks:
            known = journal.known(task.student, task.exercise_id, task.of)
            if known is None:
                todo.append(task)
            else:
                results[task.student, task.exercise_id] = known
        tracker = _Tracker(collected, tasks, todo, on_progress)

        def keep(task: _Task, result: ExerciseResult) -> None:
            marked = dataclasses.replace(
                result,
                oddities=(*task.oddities, *result.oddities),
                unsandboxed=kind.name == "unsandboxed",
            )
            journal.add(task.student, task.of, marked)
            results[task.student, task.exercise_id] = marked
            tracker.done(task)

        _work(examiner, todo, kind, jobs, runners, keep)
        run = _assemble(seed, kind, exercises, collected, results)
        if report is not None:
            report(run, collected)
        journal.finish()
    return run


def _seed_of(out: Path) -> int | None:
    from course_pkg.grading.journal import JOURNAL, read

    run, *_ = read(out / JOURNAL)
    return None if run is None else run["seed"]


def _digest_of(
    exercises: Sequence[Exercise], pages: Mapping[str, orders.Page], hidden: Path | None
) -> str:
    """What decides a grade beside the seed and the limits."""
    parts = [repr(orders.base_modules())]
    for exercise in exercises:
        parts += [exercise.id, str(exercise.points), repr(pages.get(exercise.id))]
        parts += [prop.name for prop in exercise.properties]
    for chapter in sorted({exercise.chapter for exercise in exercises}):
        source = Path(engine.__file__).with_name(f"ch{chapter:02}.py")
        parts.append(source.read_text(encoding="utf-8"))
    if hidden is not None:
        parts += [path.read_text(encoding="utf-8") for path in sorted(hidden.glob("*.py"))]
    return digest(*parts)


def _tasks(
    examiner: Examiner, collected: Collected
) -> tuple[list[_Task], dict[tuple[str, str], ExerciseResult]]:
    """What is to be run, and the results that need no running."""
    tasks: list[_Task] = []
    settled: dict[tuple[str, str], ExerciseResult] = {}
    by_place = {(s.student, s.chapter): s for s in collected.submissions}
    chapters = {s.chapter for s in collected.submissions}
    for student in sorted({s.student for s in collected.submissions}):
        for exercise in examiner.exercises.values():
            if exercise.chapter not in chapters:
                continue
            result = _without_running(examiner, exercise, by_place.get((student, exercise.chapter)))
            if isinstance(result, ExerciseResult):
                settled[student, exercise.id] = result
            else:
                tasks.append(dataclasses.replace(result, student=student))
    return tasks, settled


def _without_running(
    examiner: Examiner, exercise: Exercise, submission: Submission | None
) -> ExerciseResult | _Task:
    result = ExerciseResult(exercise.id, "missing", 0, exercise.points)
    if submission is None:
        problem = f"nothing was handed in for chapter {exercise.chapter}"
        return dataclasses.replace(result, problem=problem)
    if submission.refused is not None:
        return dataclasses.replace(result, status="refused", problem=submission.refused)
    answer = submission.answers.get(exercise.id)
    if answer is None:
        return dataclasses.replace(result, problem="the notebook has no cell for it")
    if examiner.is_stub(exercise.id, answer.source):
        return dataclasses.replace(
            result, status="not started", hints=exercise.hints, oddities=answer.oddities
        )
    return _Task("", exercise.id, answer.source, submission.extras, answer.oddities)


class _Tracker:
    """Counts what is done."""

    def __init__(
        self,
        collected: Collected,
        tasks: Sequence[_Task],
        todo: Sequence[_Task],
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._tell = tell
        self._left: dict[str, int] = {s.student: 0 for s in collected.submissions}
        for task in todo:
            self._left[task.student] += 1
        self._total, self._done = len(tasks), len(tasks) - len(todo)
        self._say("", "")

    def done(self, task: _Task) -> None:
        self._done += 1
        self._left[task.student] -= 1
        self._say(task.student, task.exercise_id)

    def _say(self, student: str, exercise_id: str) -> None:
        if self._tell is not None:
            finished = sum(left == 0 for left in self._left.values())
            counts = self._done, self._total, finished, len(self._left)
            self._tell(Progress(*counts, student, exercise_id))


def _work(
    examiner: Examiner,
    tasks: Sequence[_Task],
    kind: Kind,
    jobs: int,
    runners: Sequence[Runner],
    keep: Callable[[_Task, ExerciseResult], None],
) -> None:
    """Examine all tasks; ``keep`` is called here, in this thread, with each result."""
    waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    count = min(len(runners) or jobs, len(tasks))
    for task in tasks:
        waiting.put(task)
    for _ in range(count):
        waiting.put(None)
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            with _runner(kind, examiner.limits, number, runners) as run:
                while not stop.is_set():
                    task = waiting.get()
                    if task is None:
                        break
                    result = examiner.examine(task.exercise_id, task.cell, task.extras, run)
                    finished.put((task, result))
        except BaseException as error:  # the thread that waits raises it
            finished.put(error)
        finally:
            finished.put(None)

    # bubblewrap ends what it started when the thread that called it ends: each keeps its own.
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        ended = 0
        while ended < count:
            got = finished.get()
            if got is None:
                ended += 1
            elif isinstance(got, BaseException):
                raise got
            else:
                keep(*got)
    finally:
        stop.set()
        for thread in threads:
            thread.join(5.0)


@contextlib.contextmanager
def _runner(kind: Kind, limits: Limits, number: int, runners: Sequence[Runner]) -> Iterator[Runner]:
    if runners:
        yield runners[number]
        return
    with Sandbox(kind, limits) as box:
        yield lambda order: run_surely(box, order)


def run_surely(box: Sandbox, order: bytes) -> Reply:
    """Carry out an order; when the sandbox breaks, find out whose fault it is.

    An order that breaks a sandbox which then works again gets no answer. If it does not work, or
    broke before it got the order, that is no answer's fault.

    Raises:
        Broken: the sandbox does not work.
    """
    for last in (False, True):
        try:
            return box.run(order)
        except Broken as error:
            box.close()
            problem = sandbox.trial(box.kind)
            if problem is not None:
                raise Broken(f"{error} ({problem})") from error
            if not isinstance(error, NotStarted):
                break
            if last:
                raise
    return Reply(b"", "it broke the sandbox that it ran in")


def _assemble(
    seed: int,
    kind: Kind,
    exercises: Sequence[Exercise],
    collected: Collected,
    results: Mapping[tuple[str, str], ExerciseResult],
) -> Run:
    chapters = {s.chapter for s in collected.submissions}
    graded = [e for e in exercises if e.chapter in chapters]
    students = []
    for student in sorted({s.student for s in collected.submissions}):
        own = [s for s in collected.submissions if s.student == student]
        files = tuple(
            FileResult(
                s.chapter,
                s.file,
                s.attempt,
                s.attempts,
                None if s.submitted is None else s.submitted.isoformat(),
                s.oddities,
            )
            for s in own
        )
        found = {e.id: results[student, e.id] for e in graded}
        students.append(StudentResult(student, own[0].name, files, found))
    infos = tuple(ExerciseInfo(e.id, e.title, e.kind, e.points, e.section) for e in graded)
    return Run(seed, kind.name, infos, tuple(students), collected.oddities, kind.not_covered)


# The course's own answers


@dataclasses.dataclass(frozen=True)
class Verified:
    """What the course's own two answers to an exercise earned; ``problem`` where that is wrong."""

    exercise_id: str
    solution: ExerciseResult
    stub: ExerciseResult

    @property
    def problem(self) -> str | None:
        if self.solution.status != "passed":
            return f"the solution earns {self.solution.points} of {self.solution.max_points} points"
        if self.stub.status != "not started" or self.stub.points:
            return f"the stub is called {self.stub.status!r}"
        return None


def verify(
    solutions: Path,
    *,
    chapters: Collection[int] = (),
    jobs: int = 2,
    kind: Kind | None = None,
    seed: int | None = None,
    on_result: Callable[[Verified, int], None] | None = None,
) -> list[Verified]:
    """Run each solution and each stub of a folder in the sandbox that students' answers get.

    ``on_result`` is called with each exercise's and the number of exercises.

    Raises:
        ValueError: there is no sandbox, no page of these chapters, or one breaks a rule of its
            format.
        Broken: the sandbox ceased to work.
    """
    pages = orders.pages(solutions)
    exercises = [e for e in exercises_of(chapters) if e.id in pages]
    if not exercises:
        raise ValueError(f"{solutions} has no page for chapter {', '.join(map(str, chapters))}.")
    kind = kind or sandbox.find()
    seed = secrets.randbelow(2**31) if seed is None else seed
    examiner = Examiner(exercises, pages, seed)
    tasks = [
        _Task(which, e.id, getattr(pages[e.id], which), (), ())
        for e in exercises
        for which in ("solution", "stub")
    ]
    results: dict[tuple[str, str], ExerciseResult] = {}
    found: dict[str, Verified] = {}

    def keep(task: _Task, result: ExerciseResult) -> None:
        results[task.exercise_id, task.student] = result
        both = [results.get((task.exercise_id, which)) for which in ("solution", "stub")]
        if both[0] is not None and both[1] is not None:
            found[task.exercise_id] = Verified(task.exercise_id, both[0], both[1])
            if on_result is not None:
                on_result(found[task.exercise_id], len(exercises))

    _work(examiner, tasks, kind, jobs, (), keep)
    return [found[exercise.id] for exercise in exercises]
