"""What an exercise takes into the sandbox, and how a reply is read.

Every order is carried out as the sandbox does it, but in an ordinary process that has the two files
of the sandbox and no ``course_pkg``: the cells are those of our own solutions.
"""

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from course_pkg.authoring import formats
from course_pkg.authoring.exercises import _TRIVIAL, _regions, read_solutions
from course_pkg.checks import engine
from course_pkg.checks.compare import Opaque, plain
from course_pkg.checks.engine import Exercise, Raised, Recording
from course_pkg.grading import guest, orders, slices, wire
from course_pkg.grading.slices import Slicer

ROOT = Path(__file__).parents[1]
SOLUTIONS = ROOT / "solutions"
EVERY = engine.all_exercises()
IDS = [exercise.id for exercise in EVERY]
BY_ID = {exercise.id: exercise for exercise in EVERY}
IN_CODE = [exercise.id for exercise in EVERY if not exercise.answer_is_value]
SEED = 12345


@pytest.fixture(scope="module")
def desk() -> orders.Desk:
    return orders.Desk(orders.pages(SOLUTIONS))


@functools.cache
def _pages() -> Mapping[str, orders.Page]:
    return orders.pages(SOLUTIONS)


@functools.cache
def order_of(exercise_id: str) -> dict[str, Any]:
    """The order for the reference's cell, as the sandbox gets it."""
    desk = orders.Desk(_pages())
    message = desk.order(BY_ID[exercise_id], SEED, _pages()[exercise_id].solution)
    assert len(message) <= guest.ORDER_LIMIT
    return wire.decode(message)


def texts_of(exercise_id: str) -> dict[str, str]:
    """Every text of the package that an answer to the exercise can get at."""
    order = order_of(exercise_id)
    given = {f"given {number}": text for number, text in enumerate(order["given"])}
    base = {f"base {name}": text for name, text in orders.base_modules().items()}
    return {**base, **order["modules"], **given, "earlier": "\n".join(order["earlier"])}


def defined(texts: Mapping[str, str]) -> set[str]:
    """``module.name`` of everything at the top level of the texts."""
    return {
        f"{module.removeprefix('base ')}.{name}"
        for module, text in texts.items()
        for statement in ast.parse(text).body
        if not isinstance(statement, ast.Import | ast.ImportFrom)
        for name in slices.bound_by(statement)
    }


def source_name(function: Any) -> str | None:
    """The name at the top level of a module that a function is or comes from."""
    function = getattr(function, "func", function)
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        return None
    return f"{function.__module__}.{function.__qualname__.partition('.')[0]}"


def references(exercises: tuple[Exercise, ...] = EVERY) -> set[str]:
    return {name for e in exercises if (name := source_name(e.reference)) is not None}


# What goes into the sandbox


@pytest.mark.parametrize("exercise_id", IDS)
def test_an_order_holds_no_answer(exercise_id: str) -> None:
    exercise = BY_ID[exercise_id]
    there = defined(texts_of(exercise_id))
    assert not there & orders.secrets(exercise)
    misconceptions = {
        name for e in EVERY for m in e.misconceptions if (name := source_name(m.answer)) is not None
    }
    # One exercise's mistake may be another's reference, and is then lent as that.
    assert not there & (misconceptions - references())


@pytest.mark.parametrize("exercise_id", IDS)
def test_an_order_lends_earlier_references_only(exercise_id: str) -> None:
    exercise = BY_ID[exercise_id]
    chapter = engine.load_chapter(f"ch{exercise.chapter:02}")
    later = chapter[[e.id for e in chapter].index(exercise_id) :]
    earlier = tuple(e for e in chapter if e not in later)
    # What the page itself imports of the package is another matter: see WITHHELD.
    there = {n for n in defined(texts_of(exercise_id)) if n.startswith("course_pkg.checks.")}
    assert not there & (references(later) - references(earlier))


@pytest.mark.parametrize("exercise_id", IDS)
def test_an_order_holds_no_judge_and_no_exercise(exercise_id: str) -> None:
    there = defined(texts_of(exercise_id))
    judges = {
        name
        for e in EVERY
        for p in e.properties
        if p.judge is not None and (name := source_name(p.judge)) is not None
    }
    assert len(judges) > 50
    assert not there & judges
    names = {name.rpartition(".")[2] for name in there}
    assert not names & {"EXERCISES", "Exercise", "Property", "Misconception", "judge", "recognise"}
    for text in texts_of(exercise_id).values():
        assert "EXERCISES" not in text and "Misconception(" not in text


def _as_unparsed(line: str) -> str:
    """A line as it is written in a module that was put together again."""
    try:
        return ast.unparse(ast.parse(f"{line} pass" if line.endswith(":") else line)).split("\n")[0]
    except SyntaxError:
        return line


IDIOMS = {"with torch.no_grad():", "for name, parameter in model.named_parameters():"}


@functools.cache
def telling_lines() -> dict[str, set[str]]:
    """The lines of each solution that would give it away."""
    found = {}
    for path in sorted(SOLUTIONS.glob("[0-9][0-9]_*.md")):
        for exercise in read_solutions(path).exercises:
            secret: set[str] = set()
            shown: set[str] = set()
            for cell in exercise.cells:
                if cell.cell_type != "code":
                    continue
                hidden: set[int] = set()
                if "exercise" in cell.metadata:
                    for start, end in _regions(cell.source, exercise.id):
                        hidden |= set(range(start, end + 1))
                elif formats.has_tag(cell, "solution"):
                    continue  # of a demonstration that follows the answer
                for index, line in enumerate(cell.source.splitlines()):
                    (secret if index in hidden else shown).add(line.strip())
            found[exercise.id] = {
                _as_unparsed(line)
                for line in secret - (shown if exercise.kind == "debug" else set())
                if len(line.replace(" ", "")) >= _TRIVIAL and not line.startswith("#")
            } - IDIOMS
    return found


@pytest.mark.parametrize("exercise_id", IDS)
def test_an_order_holds_no_telling_line_of_the_solution(exercise_id: str) -> None:
    exercise = BY_ID[exercise_id]
    chapter = engine.load_chapter(f"ch{exercise.chapter:02}")
    lent = Slicer()  # the references of earlier exercises are lent on purpose
    for other in chapter[: [e.id for e in chapter].index(exercise_id)]:
        if not other.answer_is_value:
            lent.add(other.reference.__module__, other.reference.__name__)
    exempt = {line.strip() for text in lent.sources().values() for line in text.splitlines()}
    shown = {line.strip() for text in texts_of(exercise_id).values() for line in text.splitlines()}
    assert not (telling_lines()[exercise_id] & shown) - exempt


def test_the_telling_lines_are_found() -> None:
    lines = telling_lines()
    assert set(lines) == set(IDS)
    assert "return cut.transpose(1, 2)" in lines["03.split_heads"]
    assert "powers = (scores - largest).exp()" in lines["02.softmax"]
    assert sum(bool(found) for found in lines.values()) > 50


@pytest.mark.parametrize("exercise_id", sorted(orders.WITHHELD))
def test_what_is_withheld_exists_and_is_absent(exercise_id: str) -> None:
    order = order_of(exercise_id)
    trees = {name: ast.parse(text) for name, text in order["modules"].items()}
    for name in orders.withheld(exercise_id):
        module, statement, method = _split(name)
        assert callable(getattr(module, statement)) or method is None
        tree = trees.get(module.__name__, ast.Module([], []))
        found = [n for n in tree.body if statement in slices.bound_by(n)]
        if method is None:
            assert not found, f"{name} is lent"
            imported = [line for line in (*order["given"], *order["earlier"]) if statement in line]
            assert not any(f"import {statement}" in line for line in imported)
        else:
            assert callable(getattr(getattr(module, statement), method))
            for cls in found:
                (body,) = (n.body for n in cls.body if getattr(n, "name", "") == method)
                assert [type(line) for line in body] == [ast.Pass]


def _split(name: str) -> tuple[types.ModuleType, str, str | None]:
    """The module, the definition, and the method, if it is one."""
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(".".join(parts[:size]))
            statement, *method = parts[size:]
            assert len(method) <= 1
            return module, statement, method[0] if method else None
    raise AssertionError(f"there is no module of {name}")


def test_withheld_exercises_exist() -> None:
    assert set(orders.WITHHELD) <= set(IDS)


@pytest.mark.parametrize("exercise_id", IDS)
def test_what_an_exercise_builds_on_is_the_references(exercise_id: str) -> None:
    exercise = BY_ID[exercise_id]
    lines = order_of(exercise_id)["earlier"]
    for other in map(BY_ID.get, exercise.builds_on):
        assert other is not None
        if other.answer_is_value or other.chapter != exercise.chapter:
            continue
        name = other.reference.__name__
        line = f"from {other.reference.__module__} import {name} as {_pages()[other.id].answer}"
        assert line in lines
        assert f"{other.reference.__module__}.{name}" in defined(order_of(exercise_id)["modules"])


def test_an_order_is_the_same_but_for_the_cell(desk: orders.Desk) -> None:
    exercise = BY_ID["03.split_heads"]
    one, other = (wire.decode(desk.order(exercise, SEED, cell, ["x"])) for cell in ("a", "b"))
    assert (one.pop("cell"), other.pop("cell")) == ("a", "b")
    assert one.pop("extras") == other.pop("extras") == ["x"]
    assert wire.encode(one) == wire.encode(other)


def test_fresh_seeds_give_fresh_inputs(desk: orders.Desk) -> None:
    exercise = BY_ID["03.split_heads"]
    one, other = (wire.decode(desk.order(exercise, seed, "")) for seed in (1, 2))
    assert not torch.equal(one["looks"][0][3][0][0], other["looks"][0][3][0][0])


def test_a_cell_that_is_too_large_is_refused_in_words(desk: orders.Desk) -> None:
    with pytest.raises(ValueError, match="the header has"):
        desk.order(BY_ID["03.split_heads"], SEED, "#" * wire.MAX_HEADER)


# Carried out without the package

RUNNER = """
import json, os, sys, traceback
from pathlib import Path

sys.path.insert(0, sys.argv[1])
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path[:] = [p for p in sys.path if not (Path(p or ".") / "course_pkg").exists()]
import importlib.util
assert importlib.util.find_spec("course_pkg") is None
import guest, torch, wire

torch.set_num_threads(1)
base, folder = json.loads(Path(sys.argv[1], "base.json").read_text()), sys.argv[2]
guest.load_modules(base, folder)
from course_pkg.checks import engine, limits, notebooks, probes
from course_pkg.grading import slices
torch.nn.functional.gelu(torch.ones(1))

def carry_out(path):
    order = wire.decode(path.read_bytes())
    order["folder"] = folder
    guest.load_modules(order["modules"], folder)
    for name in order["modules"]:
        importlib.import_module(name)
    for module, target, names, calls, cases in order["looks"]:
        assert callable(getattr(sys.modules[module], target))
    for line in order["earlier"]:
        exec(line, {})
    return guest.answer_of(wire.encode(order))

for path in sorted(Path(sys.argv[1]).glob("*.order")):
    if os.fork() == 0:
        try:
            content = carry_out(path)
        except BaseException:
            content = traceback.format_exc().encode()
        path.with_suffix(".reply").write_bytes(content)
        os._exit(0)
    os.wait()
"""

WRONG_EARLIER = "def merge_pair(ids, pair, new_id):\n    return [new_id]\n"
HELPER = "def halve(x):\n    return x / 2\n"


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What comes back for each exercise's solution and stub, from one process without us."""
    folder = tmp_path_factory.mktemp("carried_out")
    for file in (guest.__file__, wire.__file__):
        shutil.copy(file, folder)
    (folder / "base.json").write_text(json.dumps(orders.base_modules()))
    desk = orders.Desk(_pages())
    for exercise in EVERY:
        page = _pages()[exercise.id]
        for kind in ("solution", "stub"):
            order = desk.order(exercise, SEED, getattr(page, kind))
            (folder / f"{exercise.id}.{kind}.order").write_bytes(order)
    train = BY_ID["01.train_merges"]
    solution = _pages()[train.id].solution
    assert "merge_pair(" in solution
    order = desk.order(train, SEED, solution, [WRONG_EARLIER])
    (folder / "01.train_merges.extras.order").write_bytes(order)
    split = BY_ID["03.split_heads"]
    cell = "def split_heads(x, num_heads):\n    return halve(x)\n"
    (folder / "03.split_heads.helper.order").write_bytes(desk.order(split, SEED, cell, [HELPER]))
    subprocess.run(
        [sys.executable, "-c", RUNNER, folder, ROOT],
        check=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )
    return {path.stem: path.read_bytes() for path in folder.glob("*.reply")}


def _verdict(desk: orders.Desk, exercise_id: str, reply: bytes) -> engine.Report:
    assert reply.startswith(wire.MAGIC), reply.decode(errors="replace")
    seen = desk.read(BY_ID[exercise_id], SEED, reply)
    assert seen.recording is not None, seen
    return engine.judge(BY_ID[exercise_id], seen.recording, seed=SEED)


@pytest.mark.parametrize("exercise_id", IDS)
def test_every_solution_passes_without_the_package(
    desk: orders.Desk, replies: dict[str, bytes], exercise_id: str
) -> None:
    report = _verdict(desk, exercise_id, replies[f"{exercise_id}.solution"])
    assert report.status == "passed", report.text()


@pytest.mark.parametrize("exercise_id", IDS)
def test_no_stub_was_started(
    desk: orders.Desk, replies: dict[str, bytes], exercise_id: str
) -> None:
    assert _verdict(desk, exercise_id, replies[f"{exercise_id}.stub"]).status == "not started"


def test_a_wrong_earlier_answer_does_no_harm(desk: orders.Desk, replies: dict[str, bytes]) -> None:
    """The reference stands for the student's own."""
    report = _verdict(desk, "01.train_merges", replies["01.train_merges.extras"])
    assert report.status == "passed", report.text()


def test_a_helper_comes_from_another_cell(desk: orders.Desk, replies: dict[str, bytes]) -> None:
    seen = desk.read(BY_ID["03.split_heads"], SEED, replies["03.split_heads.helper"])
    assert seen.oddities == ("halve comes from another cell",)
    assert seen.recording is not None
    assert not any(
        isinstance(e, Raised) for entries in seen.recording.seen.values() for e in entries
    )


# Reading


def reply_parts(
    desk: orders.Desk, exercise: Exercise, answer: Any, seed: int = SEED
) -> dict[str, Any]:
    """The reply that an answer gets, which is run in this process."""
    if exercise.answer_is_value:
        seen: Any = [[("value", plain(answer), ())]]
        printed = ""
    else:
        recording = engine.run(exercise, answer, seed=seed)
        looks = desk.looks(exercise, seed)
        first = {id(look): name for name, look in reversed(looks.items())}
        in_order = dict.fromkeys(id(look) for look in looks.values())
        seen = [[guest._entry(e) for e in recording.seen[first[look]]] for look in in_order]
        printed = recording.printed
    return {
        "oddities": [], "error": None, "seen": seen, "printed": printed,
        "defined": True, "problem": None, "started": True,
    }  # fmt: skip


def read(desk: orders.Desk, exercise: Exercise, reply: Any, seed: int = SEED) -> orders.Seen:
    return desk.read(exercise, seed, wire.encode(reply, opaque=Opaque))


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_reference_passes_through_the_wire(desk: orders.Desk, exercise_id: str) -> None:
    exercise = BY_ID[exercise_id]
    seen = read(desk, exercise, reply_parts(desk, exercise, exercise.reference))
    assert seen.error is None and seen.oddities == () and seen.recording is not None
    assert engine.judge(exercise, seen.recording, seed=SEED).status == "passed"


@pytest.mark.parametrize(
    "exercise_id",
    ["01.merge_pair", "02.softmax", "03.split_heads", "04.gelu", "05.embed", "06.perplexity"],
)
def test_a_misconception_is_recognised_through_the_wire(
    desk: orders.Desk, exercise_id: str
) -> None:
    exercise = BY_ID[exercise_id]
    for misconception in exercise.misconceptions:
        seen = read(desk, exercise, reply_parts(desk, exercise, misconception.answer))
        assert seen.recording is not None
        known = engine.Known(exercise, SEED)
        assert engine.judge(exercise, seen.recording, seed=SEED, known=known).status == "failed"
        assert engine.recognise(seen.recording, known)[0] == misconception


# Where the inputs are always the same, a table of the right observations answers without the
# exercise's idea. A new exercise must not be one of these.
ALWAYS_THE_SAME: set[str] = set()


@pytest.mark.parametrize("exercise_id", sorted(set(IN_CODE) - ALWAYS_THE_SAME))
def test_right_observations_of_other_inputs_earn_nothing(
    desk: orders.Desk, exercise_id: str
) -> None:
    exercise = BY_ID[exercise_id]
    public = reply_parts(desk, exercise, exercise.reference, seed=engine.SEED)
    seen = read(desk, exercise, public)
    assert seen.recording is not None
    assert engine.judge(exercise, seen.recording, seed=SEED).status == "failed"


SPLIT = BY_ID["03.split_heads"]
ERROR = ("ValueError", "bad", 3, "x = 1", True, False)
Change = Callable[[dict[str, Any]], Any]


def _without(name: str) -> Change:
    return lambda reply: {k: v for k, v in reply.items() if k != name}


def _with(**changes: Any) -> Change:
    return lambda reply: {**reply, **changes}


def _first_entry(entry: Any) -> Change:
    def change(reply: dict[str, Any]) -> Any:
        (_, *others), *looks = reply["seen"]
        return {**reply, "seen": [[entry, *others], *looks]}

    return change


def _error(place: int, value: Any) -> Change:
    error = (*ERROR[:place], value, *ERROR[place + 1 :])
    return _first_entry(("raised", *error))


def _cell_error(place: int, value: Any) -> Change:
    return _with(error=(*ERROR[:place], value, *ERROR[place + 1 :]))


MALFORMED: dict[str, Change] = {
    "no dictionary": lambda reply: list(reply.items()),
    "a number": lambda reply: 2,
    "nothing": lambda reply: None,
    "empty": lambda reply: {},
    **{f"no {name}": _without(name) for name in ("oddities", "error", "seen", "printed")},
    **{f"no {name}, though defined": _without(name) for name in ("problem", "started", "defined")},
    "one more key": _with(points=2),
    "a key that is a number": lambda reply: {**reply, 1: 1},
    "a key that is a tensor": lambda reply: {**reply, torch.tensor(1): 1},
    "a fault and an answer": _with(fault="text"),
    "a fault that is a number": lambda reply: {"fault": 1},
    "oddities that are a text": _with(oddities="odd"),
    "an oddity that is a number": _with(oddities=[1]),
    "a printed number": _with(printed=1.0),
    "a printed tensor": _with(printed=torch.ones(1)),
    "printed bytes": _with(printed=b"text"),
    "a problem that is a number": _with(problem=float("nan")),
    "seen nothing": _with(seen=None),
    "seen a tuple": lambda reply: {**reply, "seen": tuple(reply["seen"])},
    "seen a text": _with(seen="seen"),
    "seen a dictionary": _with(seen={"values": []}),
    "no looks": _with(seen=[]),
    "a look less": lambda reply: {**reply, "seen": reply["seen"][1:]},
    "a look more": lambda reply: {**reply, "seen": [*reply["seen"], reply["seen"][0]]},
    "a look that is a number": lambda reply: {**reply, "seen": [1, *reply["seen"][1:]]},
    "a look that is a tuple": lambda reply: {
        **reply, "seen": [tuple(reply["seen"][0]), *reply["seen"][1:]],
    },
    "a call less": lambda reply: {**reply, "seen": [reply["seen"][0][1:], *reply["seen"][1:]]},
    "a call more": lambda reply: {
        **reply, "seen": [reply["seen"][0] + reply["seen"][0][:1], *reply["seen"][1:]],
    },
    "an entry that is nothing": _first_entry(None),
    "an entry that is NaN": _first_entry(float("nan")),
    "an entry that is a tensor": _first_entry(torch.ones(3)),
    "an entry that is a list": _first_entry([1, 2]),
    "an entry of another kind": _first_entry(("passed", 1, ())),
    "a value without changes": _first_entry(("value", 1)),
    "a value and more": _first_entry(("value", 1, (), 1)),
    "changes in a list": _first_entry(("value", 1, ["x"])),
    "a change that is a number": _first_entry(("value", 1, (1,))),
    "an error without parts": _first_entry(("raised",)),
    "an error with more parts": _first_entry(("raised", *ERROR, True)),
    "an error's name is a number": _error(0, 1),
    "an error's name is an object": _error(0, Opaque("str")),
    "an error's message is nothing": _error(1, None),
    "an error's line number is a float": _error(2, 3.0),
    "an error's line number is NaN": _error(2, float("nan")),
    "an error's line number is true": _error(2, True),
    "an error's line number is negative": _error(2, -1),
    "an error's line number is huge": _error(2, 10**200),
    "an error's line number is a tensor": _error(2, torch.tensor(3)),
    "an error's line is bytes": _error(3, b"x = 1"),
    "an error's place is a number": _error(4, 1),
    "an error's time is a text": _error(5, "late"),
    "the cell's error is a text": _with(error="ValueError"),
    "the cell's error is short": _with(error=ERROR[:5]),
    "the cell's error has a number for a name": _cell_error(0, 5),
    "the cell's error has a huge line number": _cell_error(2, 2**80),
}  # fmt: skip


@pytest.fixture(scope="module")
def right(desk: orders.Desk) -> dict[str, Any]:
    return reply_parts(desk, SPLIT, SPLIT.reference)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_replies(desk: orders.Desk, right: dict[str, Any], name: str) -> None:
    with pytest.raises(wire.Malformed) as caught:
        read(desk, SPLIT, MALFORMED[name](right))
    assert type(caught.value) is wire.Malformed
    assert str(caught.value).isprintable() and len(str(caught.value)) < 100


def test_a_reply_to_another_exercise_is_malformed(desk: orders.Desk, right: dict[str, Any]) -> None:
    for other in ("02.softmax", "03.multi_head_attention", "03.shapes"):
        with pytest.raises(wire.Malformed):
            read(desk, BY_ID[other], right)


def test_a_value_with_two_entries_is_malformed(desk: orders.Desk) -> None:
    exercise = BY_ID["02.shapes"]
    reply = reply_parts(desk, exercise, exercise.reference)
    with pytest.raises(wire.Malformed):
        read(desk, exercise, {**reply, "seen": [reply["seen"][0] * 2]})


def test_what_failed_beside_the_answer_is_told_apart(desk: orders.Desk) -> None:
    with pytest.raises(orders.Faulty, match=r"^KeyError: 'looks'$"):
        read(desk, SPLIT, {"fault": "KeyError: 'looks'"})
    with pytest.raises(orders.Faulty) as caught:
        read(desk, SPLIT, {"fault": "x" * 5000})
    assert len(str(caught.value)) == 1000


def test_other_forms_of_right_replies(desk: orders.Desk, right: dict[str, Any]) -> None:
    base = {name: right[name] for name in ("oddities", "error", "printed")} | {"seen": None}
    assert read(desk, SPLIT, base) == orders.Seen(None, None, ())
    raised = Raised(*ERROR)
    assert read(desk, SPLIT, {**base, "error": ERROR}) == orders.Seen(None, raised, ())
    unstarted = {**right, "seen": None, "started": False}
    assert read(desk, SPLIT, unstarted).recording == Recording({}, started=False)
    problem = {**right, "seen": None, "problem": "too much"}
    assert read(desk, SPLIT, problem).recording == Recording({}, problem="too much")
    odd = {**base, "oddities": [f"odd {i}" for i in range(40)]}
    assert len(read(desk, SPLIT, odd).oddities) == 20
    nothing = {**right, "defined": 1}  # true in Python, but not what the sandbox says
    assert read(desk, SPLIT, nothing).recording is None
    everywhere = {**right, "seen": [[("raised", *ERROR)] * len(calls) for calls in right["seen"]]}
    recording = read(desk, SPLIT, everywhere).recording
    assert recording is not None
    assert {e for entries in recording.seen.values() for e in entries} == {raised}


def test_a_claim_to_have_passed_is_not_read(desk: orders.Desk, right: dict[str, Any]) -> None:
    wrong = reply_parts(desk, SPLIT, SPLIT.misconceptions[0].answer)
    for claim in ({"started": "passed"}, {"started": True, "printed": "7 of 7 properties hold"}):
        seen = read(desk, SPLIT, {**wrong, **claim})
        assert seen.recording is not None
        assert engine.judge(SPLIT, seen.recording, seed=SEED).status == "failed"


def test_texts_are_cut_and_can_be_written_to_a_file(
    desk: orders.Desk, right: dict[str, Any]
) -> None:
    broken = "\ud800 half a character \udc00" + "x" * 10_000
    error = (broken, broken, None, broken, True, False)
    first = [("raised", *error), ("value", Opaque("\ud800"), (broken,))]
    (entries, *looks) = right["seen"]
    reply = {
        **right,
        "seen": [[*first, *entries[2:]], *looks],
        "oddities": [broken],
        "error": error,
        "printed": broken,
    }
    seen = read(desk, SPLIT, reply)
    assert seen.recording is not None and seen.error is not None
    texts = [*seen.oddities, seen.error.type_name, seen.error.message, seen.error.line]
    texts.append(seen.recording.printed)
    for entries in seen.recording.seen.values():
        for entry in entries:
            if isinstance(entry, Raised):
                texts += [entry.type_name, entry.message, entry.line]
            elif isinstance(entry.data, Opaque):
                texts += [entry.data.type_name, *entry.changed_inputs]
    assert len(texts) == 10
    for text in texts:
        assert len(text.encode()) <= 4000


@pytest.mark.parametrize("exercise_id", IN_CODE)
def test_no_report_of_broken_texts_is_broken(desk: orders.Desk, exercise_id: str) -> None:
    """Judges quote what they see."""
    exercise = BY_ID[exercise_id]
    broken = "\ud800"

    def leaves(data: Any) -> Any:
        if isinstance(data, (list, tuple)):
            return type(data)(map(leaves, data))
        return {f"{k}": leaves(v) for k, v in data.items()} if isinstance(data, dict) else broken

    right = reply_parts(desk, exercise, exercise.reference)
    for change in (leaves, lambda data: broken, lambda data: {broken: [broken], (broken,): {1}}):
        seen = [[("value", change(entry[1]), ()) for entry in calls] for calls in right["seen"]]
        recording = read(desk, exercise, {**right, "seen": seen}).recording
        assert recording is not None
        report = engine.judge(exercise, recording, seed=SEED)
        assert report.status == "failed"
        assert report.text().encode()


# The pages


def test_every_exercise_has_a_page() -> None:
    pages = _pages()
    assert sorted(pages) == sorted(IDS)
    assert pages["03.split_heads"].answer == "split_heads"
    assert "### BEGIN SOLUTION" not in pages["03.split_heads"].stub
    for page in pages.values():
        assert page.solution != page.stub
        for cell in page.given:
            ast.parse(cell)


def test_a_folder_without_pages_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no solutions page"):
        orders.pages(tmp_path)


def test_a_check_of_no_name_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"03\.x: no check of a name"):
        orders._checked_name('check("03.x", 1 + 1)\ncheck("03.y", y)', "03.x")


def test_observations_without_a_name_are_found_where_they_are_written() -> None:
    for exercise_id, wanted in (("02.scaled_dot_product", "lambda"), ("06.resume", "_resumed(")):
        order = order_of(exercise_id)
        text = order["modules"][f"course_pkg.checks.ch{exercise_id[:2]}"]
        written = [line for line in text.splitlines() if line.startswith("_observe_")]
        assert written and all(wanted in line for line in written)


def test_an_observation_that_is_written_nowhere_is_refused_in_words() -> None:
    made = tuple(
        dataclasses.replace(p, observe=lambda answer, *inputs: answer(*inputs), name=f"{p.name} 2")
        for p in SPLIT.properties[:1]
    )
    exercise = dataclasses.replace(SPLIT, properties=made)
    with pytest.raises(ValueError, match="is not written where it is used"):
        orders.Desk(_pages()).order(exercise, SEED, "")


# The slicer, on a package of its own


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[Any]:
    """Writes modules of a package with a name of its own and returns that name."""
    name = f"sliced_{abs(hash(request.node.name))}"
    monkeypatch.setattr(slices, "PACKAGE", name)
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", **modules}.items():
            (folder / f"{module}.py").write_text(text.replace("PKG", name))
        importlib.invalidate_caches()
        return name

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def run_text(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "sliced"}
    exec(compile(text, "<slice>", "exec"), namespace)
    return namespace


def names_in(slicer: Slicer) -> set[str]:
    return {name.name for name in slicer.names}


def test_only_what_is_used_goes_along(package: Any) -> None:
    name = package(
        one='''
import math, os
from collections import OrderedDict as Ordered, deque
A, B = 1, 2
C: int = 3
def _secret(): return "secret"
def helper(x: "Unknown") -> "Unknown":
    """Words."""
    y: int = A
    return math.sqrt(x) + y
def wanted(x, B=None):
    """Words."""
    C = [deque for deque in x]
    def inner(): return helper(C[0])
    return inner()
'''
    )
    slicer = Slicer()
    slicer.add(f"{name}.one", "wanted")
    assert names_in(slicer) == {"wanted", "helper", "math", "A"}
    sources = slicer.sources()
    assert set(sources) == {name, f"{name}.one"} and sources[name] == ""
    text = sources[f"{name}.one"]
    assert text.count("A, B = (1, 2)") == 1
    for absent in ("secret", "Words", "Unknown", "os", "Ordered", "C: "):
        assert absent not in text
    assert run_text(text)["wanted"]([9.0]) == 4.0


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ("def f(G): return G", set()),
        ("def f(x):\n    G = x\n    return G", set()),
        ("def f(x): return [G for G in x]", set()),
        ("def f(x):\n    for G in x: pass", set()),
        ("def f(x):\n    with x as G: return G", set()),
        ("def f(x):\n    import G\n    return G", set()),
        ("def f(x):\n    try: x()\n    except ValueError as G: return G", set()),
        ("def f(x): return (G := x)", set()),
        ("def f(x): return x.G", set()),
        ("def f(x): return dict(G=x)", set()),
        ("def f(x):\n    def G(): pass\n    return G", set()),
        ("def f(x): return G", {"G"}),
        ("def f(x=G): return x", {"G"}),
        ("def f(x): return lambda: G", {"G"}),
        ("def f(x): return [y for y in G]", {"G"}),
        ("def f(x): return [G for y in x]", {"G"}),
        ("def f(x):\n    def inner(): return G\n    return inner", {"G"}),
        ("def f(x):\n    class Inner:\n        y = G\n    return Inner", {"G"}),
        ("def f(x):\n    global G\n    G = x\n    return G", {"G"}),
        ("@G\ndef f(x): return x", {"G"}),
        ("class f(G): pass", {"G"}),
        ("class f:\n    def G(self): return G", {"G"}),
        ("class f:\n    def run(self): return self.G", set()),
        ("def f(x):\n    match x:\n        case G(): return 1", {"G"}),
        ("f = lambda x, G=1: G", set()),
        ("def f(x): return f'{G}'", {"G"}),
    ],
)
def test_shadowed_names_are_not_followed(body: str, needs: set[str]) -> None:
    assert slices.globals_of(ast.parse(body)) & {"G"} == needs


def test_attributes_of_a_module_of_the_package_are_followed(package: Any) -> None:
    name = package(
        __init__="_HOME = {'Piece': 'two'}\n",
        one="from PKG import two, Piece\ndef wanted(): return two.used() + two.VALUE + Piece().x\n",
        two="VALUE = 3\ndef used(): return 1\ndef unused(): return 2\nclass Piece:\n    x = 4\n",
    )
    slicer = Slicer()
    slicer.add(f"{name}.one", "wanted")
    text = slicer.sources()[f"{name}.two"]
    assert "unused" not in text
    assert f"from {name}.two import Piece" in slicer.sources()[f"{name}.one"]
    assert {"used", "VALUE", "Piece"} <= names_in(slicer)


def test_a_dataclass_keeps_its_fields(package: Any) -> None:
    name = package(
        one='''
from dataclasses import dataclass
from typing import Protocol
@dataclass(frozen=True)
class Point:
    """Words."""
    x: "SomethingElse"
    y: int = 2
    def moved(self, by: "SomethingElse") -> "Point":
        z: int = self.x + by
        return Point(z)
'''
    )
    slicer = Slicer()
    slicer.add(f"{name}.one", "Point")
    text = slicer.sources()[f"{name}.one"]
    assert "SomethingElse" not in text and "Words" not in text and "Protocol" not in text
    point = run_text(text)["Point"](1).moved(4)
    assert (point.x, point.y) == (5, 2)


MODEL = """
def _secret(): return 1
def _open(): return 2
class Model:
    def __init__(self): self.x = _open()
    def forward(self, x): return _secret()
    def loss(self): return self.forward(1)
def build(): return Model()
"""


def test_a_withheld_method_keeps_its_name_only(package: Any) -> None:
    name = package(one=MODEL)
    slicer = Slicer([f"{name}.one.Model.forward"])
    slicer.add(f"{name}.one", "build")
    text = slicer.sources()[f"{name}.one"]
    assert "_secret" not in text
    model = run_text(text)["build"]()
    assert model.x == 2 and model.loss() is None


@pytest.mark.parametrize("withheld", ["Model", "_secret"])
def test_what_is_withheld_is_not_taken_by_a_detour(package: Any, withheld: str) -> None:
    name = package(one=MODEL)
    with pytest.raises(ValueError, match=rf"\.{withheld} is withheld"):
        Slicer([f"{name}.one.{withheld}"]).add(f"{name}.one", "build")


def test_expressions_bring_what_they_need(package: Any) -> None:
    name = package(
        one="""
def _base(x): return x
def _made(k):
    def observe(answer): return _base(answer) + k
    return observe
def _other(x): return x
"""
    )
    slicer = Slicer()
    slicer.add_expression(f"{name}.one", "_first", "_made(2)")
    slicer.add_expression(
        f"{name}.one", "_second", "lambda answer, _other=1: _base(answer) + _other"
    )
    namespace = run_text(slicer.sources()[f"{name}.one"])
    assert namespace["_first"](1) == 3 and namespace["_second"](1) == 2
    assert names_in(slicer) == {"_made", "_base"}


def test_what_another_has_is_left_out(package: Any) -> None:
    name = package(one="def a(): return 1\ndef b(): return a()\n")
    base, more = Slicer(), Slicer()
    base.add(f"{name}.one", "a")
    more.add(f"{name}.one", "b")
    assert "def a" not in more.sources(besides=base)[f"{name}.one"]
    assert "def a" in more.sources()[f"{name}.one"]


def test_the_package_hands_on_what_was_lent_and_nothing_else(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = package(one="def a(): return 1\ndef b(): return 2\n")
    slicer = Slicer()
    slicer.add(f"{name}.one", "a")
    slicer.hand_on(f"{name}.one", "a")
    sources = slicer.sources()
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    guest.load_modules(sources, "/nowhere")
    module = importlib.import_module(name)
    assert module.a() == 1
    with pytest.raises(
        AttributeError, match="there is no b of the package here: write it yourself"
    ):
        _ = module.b


def test_errors_of_the_slicer_name_what_is_missing(package: Any) -> None:
    name = package(one="def a(): return missing\n")
    with pytest.raises(ValueError, match=r"one: 'missing' is neither defined nor imported"):
        Slicer().add(f"{name}.one", "a")
    with pytest.raises(ValueError, match=r"one defines no 'b'"):
        Slicer().add(f"{name}.one", "b")
    with pytest.raises(ValueError, match=r"there is no module '.*\.two'"):
        Slicer().add(f"{name}.two", "a")


def test_what_a_statement_binds() -> None:
    for text, names in {
        "def f(): g = 1": ["f"],
        "async def f(): pass": ["f"],
        "class C:\n    x = 1": ["C"],
        "import a.b, c as d": ["a", "d"],
        "from a import b, c as d": ["b", "d"],
        "x, (y, *z) = 1": ["x", "y", "z"],
        "x: int = 1": ["x"],
        "x.y = z[0] = 1": [],
        "for i in x: y = i": ["i", "y"],
        "if x:\n    y = 1": ["y"],
        "print((w := 1))": ["w"],
    }.items():
        assert list(slices.bound_by(ast.parse(text).body[0])) == names
