"""Are the checks right? Everything that says so, measured, in ``book/data/proof.json``.

    .venv/bin/python tests/proof.py               # everything; takes a while
    .venv/bin/python tests/proof.py --resume      # only what has changed since
    .venv/bin/python tests/proof.py --chapter 3   # only a chapter; writes no proof.json

For each exercise:

- ``confusion``: each misconception's answer is handed in at several seeds. Which diagnosis comes
  back is counted: a misconception of the exercise, several at once, none, or a pass.
- ``false_alarms``: the reference and each right answer by another route (``tests/right_answers``)
  is handed in at 200 seeds. A value is compared with a value, which no seed changes: three do.
- ``mutation``: the fate of each mutant of the solution (``tests/mutation.py``), and of the same
  mutants under what other courses check (``tests/peer_checks.py``).
- ``seconds``: the longest that a check took, of the processor's time: wrong answers, which are also
  diagnosed, take longest.

What is finished is kept in ``runs/proof.json`` under a digest of all that it depends on, so that a
stopped run can be taken up with ``--resume``. A test compares ``book/data/proof.json`` with the
exercises as they are declared.
"""

import argparse
import ast
import functools
import hashlib
import importlib
import inspect
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import mutation
import peer_checks
import torch

from course_pkg.authoring import formats
from course_pkg.checks import all_exercises
from course_pkg.checks.engine import SEED, Exercise, Known, Report, evaluate, find_exercise
from course_pkg.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "book" / "data" / "proof.json"
STATE = ROOT / "runs" / "proof.json"
CONFUSION_SEEDS = (SEED, 1, 2, 3, 4)
VALUE_SEEDS = 3
TIME_LIMIT = 120.0  # seconds: a busy machine fails nobody here

Result = dict[str, Any]


def right_answers(exercise: Exercise) -> dict[str, Any]:
    """The reference and the right answers by other routes, by the name of their style."""
    module = importlib.import_module(f"right_answers.ch{exercise.chapter:02}")
    return {"reference": exercise.reference, **module.RIGHT.get(exercise.id, {})}


class _Judge:
    """Evaluates answers and keeps the longest time that one took."""

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self.seconds = 0.0

    def __call__(self, answer: Any, seed: int) -> Report:
        start = time.process_time()
        report = evaluate(self.exercise, answer, seed=seed, time_limit=TIME_LIMIT)
        self.seconds = max(self.seconds, time.process_time() - start)
        return report


def confusion(exercise: Exercise, seeds: Sequence[int] = CONFUSION_SEEDS) -> Result:
    """How often each misconception's answer (row) gets each diagnosis (column).

    The columns are the misconceptions in the same order, then "several", "none" and "passed".
    """
    names = [misconception.name for misconception in exercise.misconceptions]
    counts = [[0] * (len(names) + 3) for _ in names]
    judge = _Judge(exercise)
    evaluate(exercise, exercise.reference)  # the first run loads what later ones find
    for row, misconception in zip(counts, exercise.misconceptions, strict=True):
        for seed in seeds:
            row[_diagnosed(judge(misconception.answer, seed), names)] += 1
    return {"names": names, "counts": counts, "seconds": round(judge.seconds, 2)}


def _diagnosed(report: Report, names: Sequence[str]) -> int:
    several, none, passed = range(len(names), len(names) + 3)
    if report.status == "passed":
        return passed
    if len(report.diagnoses) != 1:
        return several if report.diagnoses else none
    found = [i for i, name in enumerate(names) if report.diagnoses[0].startswith(f"{name}. ")]
    return found[0] if found else none


def false_alarms(exercise: Exercise, seeds: int) -> Result:
    """How many right answers are called wrong, and what is then said first."""
    used = min(seeds, VALUE_SEEDS) if exercise.answer_is_value else seeds
    answers = right_answers(exercise)
    failures = []
    for seed in range(used):
        known = Known(exercise, seed)
        for style, answer in answers.items():
            report = evaluate(exercise, answer, seed=seed, time_limit=TIME_LIMIT, known=known)
            if report.status != "passed":
                said = [o.message.splitlines()[0] for o in report.outcomes if o.message]
                said = said or [report.text().splitlines()[0]]
                failures.append({"style": style, "seed": seed, "said": said[0]})
    return {
        "styles": list(answers),
        "seeds": used,
        "checks": used * len(answers),
        "failures": failures,
    }


def mutants(exercise: Exercise) -> Result:
    """What became of each mutant, and, where another course checks the function, of it there."""
    cell = mutation.cells(exercise.chapter)[exercise.id]
    tally = mutation.try_all(cell)
    entries = [e for e in mutation.listed(exercise.chapter) if e["exercise"] == exercise.id]
    same = {entry["mutant"] for entry in entries if entry["equivalent"]}
    survivors = {mutant.key for mutant in tally.survivors}
    result: Result = {
        "mutants": len(tally.fates),
        **{verdict: tally.count(verdict) for verdict in ("value", "raise", "time")},
        "equivalent": len(survivors & same),
        "survivors": sorted(survivors - same),
    }
    real = [mutant for mutant, _ in tally.fates if mutant.key not in survivors & same]
    peers = {}
    for course, checks in peer_checks.PEERS.items():
        if exercise.id in checks:
            every = [mutant for mutant, _ in tally.fates]
            judge = peer_checks.judge(checks[exercise.id])
            theirs = mutation.try_all(cell, every, judge).survivors
            peers[course] = {
                "mutants": len(real),
                "ours": len(real) - len(survivors - same),
                "theirs": sum(mutant not in theirs for mutant in real),
                # Called equivalent here, and yet noticed there.
                "disputed": [m.key for m in every if m not in real and m not in theirs],
            }
    return {**result, "peers": peers}


TASKS: dict[str, Callable[..., Result]] = {
    "mutation": mutants,
    "confusion": confusion,
    "false_alarms": false_alarms,  # takes longest
}


def digest_of_declarations() -> str:
    """Of the ids and the names of the misconceptions and of the right answers."""
    declared = [
        (e.id, [m.name for m in e.misconceptions], list(right_answers(e))) for e in all_exercises()
    ]
    return _digest(json.dumps(declared, ensure_ascii=False))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _sources(chapter: int, task: str, has_peers: bool = False) -> str:
    """Everything that a task's result on a chapter's exercise depends on, in short."""
    checks, here = ROOT / "course_pkg" / "checks", Path(__file__).parent
    files = [checks / name for name in ("engine.py", "compare.py", f"ch{chapter:02}.py")]
    if task == "false_alarms":
        files.append(here / "right_answers" / f"ch{chapter:02}.py")
    if task == "mutation":
        files += [mutation.survivors_file(chapter), here / "mutation.py"]
        files += [here / "peer_checks.py"] if has_peers else []
        files += (ROOT / "solutions").glob(f"{chapter:02}_*.md")
    codes = [_code(f) for f in sorted(files) if f.exists()]
    return _digest("".join([inspect.getsource(TASKS[task]), *codes]))


def _code(path: Path) -> str:
    """What a file does, without comments, docstrings and prose."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return "".join(cell.source for cell in formats.read(path).cells if cell.cell_type == "code")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _do(task: str, identifier: str, seeds: int) -> Result:
    torch.set_num_threads(1)
    arguments = (seeds,) if task == "false_alarms" else ()
    return TASKS[task](find_exercise(identifier), *arguments)


def run(
    exercises: Sequence[Exercise], seeds: int, jobs: int, resume: bool, tasks: Sequence[str]
) -> dict[str, Result]:
    """All results by ``task/exercise``, those that are still valid taken from the last run."""
    state: dict[str, Result] = {}
    if resume and STATE.exists():
        state = json.loads(STATE.read_text("utf-8"))
    with_peers = {identifier for checks in peer_checks.PEERS.values() for identifier in checks}
    wanted = {
        f"{task}/{exercise.id}": _sources(exercise.chapter, task, exercise.id in with_peers)
        + (f"/{seeds}" if task == "false_alarms" else "")
        for task in tasks
        for exercise in exercises
    }
    todo = [key for key, digest in wanted.items() if state.get(key, {}).get("of") != digest]
    print(f"{len(wanted) - len(todo)} of {len(wanted)} are up to date", flush=True)
    context = multiprocessing.get_context("spawn")
    start = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(_do, *key.split("/"), seeds): key for key in todo}
        for number, future in enumerate(as_completed(futures), start=1):
            key = futures[future]
            state[key] = {"of": wanted[key], "result": future.result()}
            STATE.parent.mkdir(exist_ok=True)
            with atomic_write(STATE) as file:
                json.dump(state, file)
            passed = time.monotonic() - start
            print(
                f"{number}/{len(todo)} {key} {_in_short(key, state)} ({passed:.0f} s)", flush=True
            )
    return {key: state[key]["result"] for key in wanted}


def _in_short(key: str, state: dict[str, Result]) -> str:
    result = state[key]["result"]
    match key.partition("/")[0]:
        case "confusion":
            right = sum(row[i] for i, row in enumerate(result["counts"]))
            return f"{right} of {sum(map(sum, result['counts']))} diagnosed as themselves"
        case "false_alarms":
            return f"{len(result['failures'])} of {result['checks']} right answers called wrong"
        case _:
            peers = "".join(f", {c} {p['theirs']}" for c, p in result["peers"].items())
            left = len(result["survivors"])
            real = result["mutants"] - result["equivalent"]
            return f"{real - left} of {real} mutants killed{peers}"


def collected(results: dict[str, Result]) -> Result:
    """What goes into ``proof.json``; all but ``seconds`` is the same on every run."""
    exercises = []
    seconds = {}
    for exercise in all_exercises():
        found = {task: dict(results[f"{task}/{exercise.id}"]) for task in TASKS}
        seconds[exercise.id] = found["confusion"].pop("seconds")
        exercises.append({"id": exercise.id, "kind": exercise.kind, **found})
    return {
        "digest": digest_of_declarations(),
        "confusion_seeds": list(CONFUSION_SEEDS),
        "peers": {
            course: {identifier: check.source for identifier, check in checks.items()}
            for course, checks in peer_checks.PEERS.items()
        },
        "exercises": exercises,
        "seconds": seconds,
    }


def summary(proof: Result) -> str:
    """The proof in a few lines."""
    exercises = proof["exercises"]
    confusions = [e["confusion"] for e in exercises]
    rows = sum(len(c["names"]) for c in confusions)
    handed_in = sum(sum(map(sum, c["counts"])) for c in confusions)
    right = sum(row[i] for c in confusions for i, row in enumerate(c["counts"]))
    checks = sum(e["false_alarms"]["checks"] for e in exercises)
    alarms = sum(len(e["false_alarms"]["failures"]) for e in exercises)
    answers = sum(len(e["false_alarms"]["styles"]) for e in exercises)
    slowest = max(proof["seconds"], key=proof["seconds"].get)
    lines = [
        f"{len(exercises)} exercises, {rows} misconceptions: {right} of {handed_in} wrong answers "
        "diagnosed as themselves",
        f"{answers} right answers: {alarms} false alarms in {checks} checks",
        f"the slowest check, {slowest}, took {proof['seconds'][slowest]:.1f} s",
    ]
    for chapter in sorted({e["id"][:2] for e in exercises}):
        lines.append(
            f"chapter {chapter}: {_kills([e for e in exercises if e['id'][:2] == chapter])}"
        )
    lines.append(f"together: {_kills(exercises)}")
    for course in proof["peers"]:
        both = [
            e["mutation"]["peers"][course] for e in exercises if course in e["mutation"]["peers"]
        ]
        if not both:
            continue
        total = sum(p["mutants"] for p in both)
        ours, theirs = sum(p["ours"] for p in both), sum(p["theirs"] for p in both)
        lines.append(
            f"{len(both)} functions that {course} checks too, {total} mutants: "
            f"{ours / total:.1%} killed here, {theirs / total:.1%} there"
        )
    return "\n".join(lines)


def _kills(exercises: Sequence[Result]) -> str:
    found = [e["mutation"] for e in exercises]
    rate = functools.reduce(
        lambda a, b: a + b,
        (mutation.Rate(m["mutants"], m["equivalent"], len(m["survivors"])) for m in found),
    )
    raised = sum(m["raise"] for m in found)
    timed = sum(m["time"] for m in found)
    return (
        f"{rate.total} mutants, {rate.equivalent} equivalent, {rate.share:.1%} of the others "
        f"killed ({raised} only by a raise, {timed} by the time limit)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure whether the checks are right.")
    parser.add_argument("--seeds", type=int, default=200, help="for each right answer")
    parser.add_argument("--chapter", type=int, choices=mutation.chapters())
    parser.add_argument("--resume", action="store_true", help="keep what has not changed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--task", choices=list(TASKS), help="only this; writes no proof.json")
    options = parser.parse_args(arguments)
    every = all_exercises()
    chosen = [e for e in every if options.chapter in (None, e.chapter)]
    tasks = [options.task] if options.task else list(TASKS)
    results = run(chosen, options.seeds, options.jobs, options.resume, tasks)
    bad = [
        f"{key}: {failure}"
        for key, result in results.items()
        for failure in result.get("failures", ())
    ]
    if bad:
        print("\nRight answers that were called wrong:", *bad, sep="\n  ")
    if len(chosen) < len(every) or options.task:
        return 1 if bad else 0
    proof = collected(results)
    RESULT.parent.mkdir(exist_ok=True)
    with atomic_write(RESULT) as file:
        file.write(to_text(proof))
    print(f"\n{summary(proof)}")
    return 1 if bad else 0


def to_text(proof: Result) -> str:
    """JSON with a line for each exercise."""
    rows = [json.dumps(e, ensure_ascii=False) for e in proof["exercises"]]
    rest = {key: value for key, value in proof.items() if key != "exercises"}
    head = json.dumps(rest, ensure_ascii=False, indent=1).removesuffix("\n}")
    return head + ',\n "exercises": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
