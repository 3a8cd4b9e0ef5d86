"""What the sandbox is asked for one answer, and what its reply says.

``Desk`` makes an order for an exercise: the part that is the same for all students is made once.
``recording`` reads a reply. Nothing of the reply is believed but its form: what it says of the
answer is then judged as any recording is.
"""

import ast
import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from course_pkg.checks import engine
from course_pkg.checks.compare import Opaque
from course_pkg.checks.engine import Exercise, Property, Raised, Recording, Value
from course_pkg.grading import wire
from course_pkg.grading.slices import PACKAGE, Slicer, home_of, module_tree

FOLDER = "/opt/course"  # where the sandbox has the files that come with the package
CELL_LIMIT = 20.0  # seconds for the cell; an exploration that measures takes 2 of them
_MAX_TEXT = 4000  # characters of a message
_MAX_LINE = 10**6  # of a cell
_REPLY = {"oddities", "error", "seen", "printed"}  # what each has
_OF_ANSWER = {"defined", "problem", "started"}  # what one of an answer has besides

# The exercise's own piece is not lent, nor any that holds it. A method is lent without its body.
WITHHELD: Mapping[str, tuple[str, ...]] = {
    "01.merge_pair": ("tokenizer.BPETokenizer",),
    "01.train_merges": ("tokenizer.BPETokenizer",),
    "01.encode_by_rank": ("tokenizer.BPETokenizer",),
    "01.split_on_special": ("tokenizer.BPETokenizer",),
    "01.decode_bytes": ("tokenizer.BPETokenizer",),
    "03.split_heads": ("attention.MultiHeadAttention",),
    "03.merge_heads": ("attention.MultiHeadAttention",),
    "03.one_projection": ("attention.MultiHeadAttention",),
    "03.multi_head_attention": ("attention.MultiHeadAttention",),
    "04.layer_norm": ("transformer.LayerNorm",),
    "04.gelu": ("transformer.GELU",),
    "04.feed_forward": ("transformer.FeedForward",),
    "04.residual": ("transformer.TransformerBlock",),
    "04.transformer_block": ("transformer.TransformerBlock",),
    "02.read_maps": ("checks.ch02._MAPS",),
    "05.initialise": ("gpt.GPT._initialise", "gpt.GPT.forward"),
    "05.repair_forward": ("gpt.GPT.forward",),
    "06.read_curves": ("checks.ch06.measured_curves",),
}
_INERT = ("check", "display", "figures", "plt")  # looks and checks do nothing here

# What the sandbox needs for every order. PyTorch and these are imported once.
_EVERYWHERE = {
    "course_pkg.checks.engine": (
        "Form", "Look", "Raised", "Value", "call", "draw", "fill_parameters", "raised_by", "record",
    ),
    "course_pkg.checks.compare": ("Opaque", "plain", "TOLERANCES"),
    "course_pkg.checks.limits": ("OutOfTime", "call_within"),
    "course_pkg.checks.notebooks": ("parse", "without_magics"),
    "course_pkg.checks.probes": (
        "copied", "first_alone", "input_gradients", "parameter_gradients", "sensitivity",
        "token_changed",
    ),
    "course_pkg.grading.slices": ("bound_by", "globals_of"),
}  # fmt: skip


@functools.cache
def base_modules() -> dict[str, str]:
    """The texts of the modules that the sandbox has before any order."""
    return _base().sources()


@functools.cache
def _base() -> Slicer:
    slicer = Slicer()
    for module, names in _EVERYWHERE.items():
        for name in names:
            slicer.add(module, name)
    return slicer


@dataclasses.dataclass(frozen=True)
class Page:
    """What a solutions page says of an exercise, for whoever runs an answer to it.

    ``given`` are code cells that the notebook holds for it, ``answer`` the name that its check
    takes, ``stub`` and ``solution`` the two forms of its cell.
    """

    given: tuple[str, ...]
    answer: str
    stub: str
    solution: str


def pages(solutions: Path) -> dict[str, Page]:
    """The page of each exercise by its id, from the folder ``solutions``.

    Raises:
        ValueError: there is no solutions page in the folder, or one breaks a rule of the format.
    """
    from course_pkg.authoring import formats
    from course_pkg.authoring.exercises import read_solutions

    found: dict[str, Page] = {}
    for path in sorted(solutions.glob("[0-9][0-9]_*.md")):
        page = read_solutions(path)
        preamble = tuple(cell.source for cell in page.preamble if cell.cell_type == "code")
        for exercise in page.exercises:
            own = [cell for cell in exercise.cells if cell.cell_type == "code"]
            given = tuple(
                cell.source
                for cell in own
                if "exercise" not in cell.metadata
                and not formats.has_tag(cell, "check")
                and not formats.has_tag(cell, "solution")
            )
            solution = next(cell.source for cell in own if "exercise" in cell.metadata)
            checks = "\n".join(c.source for c in own if formats.has_tag(c, "check"))
            found[exercise.id] = Page(
                preamble + given, _checked_name(checks, exercise.id), exercise.stub, solution
            )
    if not found:
        raise ValueError(f"{solutions} holds no solutions page, such as 03_name.md.")
    return found


def _checked_name(checks: str, exercise_id: str) -> str:
    """The name in ``check("03.split_heads", split_heads)``."""
    for node in ast.walk(ast.parse(checks)):
        match node:
            case ast.Call(func=ast.Name("check"), args=[ast.Constant(value), ast.Name(name)]):
                if value == exercise_id:
                    return name
    raise ValueError(f"{exercise_id}: no check of a name was found.")


class Faulty(wire.Malformed):
    """What runs in the sandbox failed beside the answer; the text is for instructors only."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a reply says.

    Attributes:
        recording: of the answer, or ``None`` where there is no answer to look at.
        error: what the cell raised.
        oddities: what the sandbox noticed about the cell.
    """

    recording: Recording | None
    error: Raised | None
    oddities: tuple[str, ...]


class Desk:
    """Makes the orders of a grading run and reads the replies.

    Args:
        pages: of every exercise that may be asked for.
        time_limit: seconds for all calls of an answer.
        cell_limit: seconds for a cell.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        time_limit: float = engine.TIME_LIMIT,
        cell_limit: float = CELL_LIMIT,
    ) -> None:
        self._pages = pages
        self._limits = {"time_limit": time_limit, "cell_limit": cell_limit}
        self._fixed: dict[tuple[str, int], dict[str, Any]] = {}
        self._looks: dict[tuple[str, int], dict[str, engine.Look]] = {}

    def order(self, exercise: Exercise, seed: int, cell: str, extras: Sequence[str] = ()) -> bytes:
        """The order to run a student's cell and look at the answer.

        Raises:
            ValueError: the cell is too large to be sent.
        """
        key = exercise.id, seed
        if key not in self._fixed:
            self._fixed[key] = self._prepare(exercise, seed)
        return wire.encode({**self._fixed[key], "cell": cell, "extras": list(extras)})

    def _prepare(self, exercise: Exercise, seed: int) -> dict[str, Any]:
        page = self._pages[exercise.id]
        slicer = Slicer(withheld(exercise.id))
        form = engine.Form.of(exercise)
        return {
            "exercise": exercise.id,
            "seed": seed,
            "folder": FOLDER,
            "inert": list(_INERT),
            "answer": page.answer,
            "form": (form.wanted, form.required, form.is_value, form.is_class),
            "looks": self._observations(exercise, seed, slicer),
            "given": lend(page.given, slicer, withheld(exercise.id)),
            "earlier": self._earlier(exercise, slicer),
            "modules": slicer.sources(besides=_base()),
            **self._limits,
        }

    def looks(self, exercise: Exercise, seed: int) -> dict[str, engine.Look]:
        """The look of each property; drawn once."""
        key = exercise.id, seed
        if key not in self._looks:
            self._looks[key] = engine.looks_of(exercise, seed)
        return self._looks[key]

    def _observations(self, exercise: Exercise, seed: int, slicer: Slicer) -> list[Any]:
        """Each look once: where its ``observe`` is, the names, and the inputs of its calls.

        Inputs that are no plain data are made in the sandbox, by ``cases``.
        """
        if exercise.answer_is_value:
            return [("course_pkg.checks.engine", "call", (), [()], None)]
        found = []
        for number, (prop, look) in enumerate(_distinct(exercise, self.looks(exercise, seed))):
            module, target = _place(exercise, prop, "observe", number, slicer)
            try:
                calls: Any = list(look.calls)
                wire.encode(calls)
                cases = None
            except ValueError:
                calls = None
                at, cases = _place(exercise, prop, "cases", number, slicer)
                if at != module:
                    slicer.add_line(module, f"from {at} import {cases}")
            found.append((module, target, look.names, calls, cases))
        return found

    def _earlier(self, exercise: Exercise, slicer: Slicer) -> list[str]:
        """Lines that import the references of the exercises before this one in its chapter.

        One that uses the reference of this exercise is left out.
        """
        lines = []
        for other in engine.load_chapter(f"ch{exercise.chapter:02}"):
            if other.id == exercise.id:
                break
            if other.answer_is_value or other.id not in self._pages:
                continue
            home, name = other.reference.__module__, other.reference.__name__
            trial = Slicer()
            trial.add(home, name)
            if not secrets(exercise) & {f"{found.module}.{found.name}" for found in trial.names}:
                slicer.add(home, name)
                lines.append(f"from {home} import {name} as {self._pages[other.id].answer}")
        return lines

    def read(self, exercise: Exercise, seed: int, message: bytes) -> Seen:
        """What a reply says of an answer.

        Raises:
            Faulty: what runs in the sandbox failed, or says so.
            Malformed: it is no reply to this exercise's order.
        """
        reply = wire.decode(message, opaque=lambda name: Opaque(_text(name)))
        if not isinstance(reply, dict):
            raise wire.Malformed("it is not what a reply is made of")
        if set(reply) == {"fault"}:
            raise Faulty(_text(reply["fault"])[:1000])
        if set(reply) not in (_REPLY, _REPLY | _OF_ANSWER):
            raise wire.Malformed("it is not what a reply is made of")
        oddities, error, seen = reply["oddities"], reply["error"], reply["seen"]
        if not isinstance(oddities, list):
            raise wire.Malformed("it is not what a reply is made of")
        printed = _text(reply["printed"])
        told = tuple(_text(oddity) for oddity in oddities[:20])
        raised = None if error is None else _read_raised(error)
        if reply.get("defined") is not True:
            return Seen(None, raised, told)
        if reply.get("started") is False and seen is None:
            return Seen(Recording({}, started=False), raised, told)
        if reply.get("problem") is not None:
            problem = Recording({}, problem=_text(reply["problem"]))
            return Seen(problem, raised, told)
        if exercise.answer_is_value:
            return Seen(_of_value(exercise, seed, _read_entries(seen, [1])), raised, told)
        looks = self.looks(exercise, seed)
        sizes = [len(look.calls) for _, look in _distinct(exercise, looks)]
        entries = _read_entries(seen, sizes)
        numbers = {id(look): i for i, (_, look) in enumerate(_distinct(exercise, looks))}
        by_property = {name: entries[numbers[id(look)]] for name, look in looks.items()}
        return Seen(engine.recording_of(by_property, printed), raised, told)


def withheld(exercise_id: str) -> tuple[str, ...]:
    """The names of the package that are not lent to an exercise."""
    return tuple(f"{PACKAGE}.{name}" for name in WITHHELD.get(exercise_id, ()))


def secrets(exercise: Exercise) -> set[str]:
    """The names of an exercise's reference and misconceptions, where they have any."""
    answers = [exercise.reference, *(m.answer for m in exercise.misconceptions)]
    return {
        f"{answer.__module__}.{answer.__qualname__}"
        for answer in answers
        if inspect.isfunction(answer) or inspect.isclass(answer)
    }


def lend(given: Sequence[str], slicer: Slicer, kept_back: Sequence[str]) -> list[str]:
    """The notebook's own cells, with the package's pieces that may be lent.

    A piece that is withheld, or holds one that is, is left out: the name is then unknown.
    """
    texts = []
    for text in given:
        kept: list[ast.stmt] = []
        for statement in ast.parse(text).body:
            origin = statement.module or "" if isinstance(statement, ast.ImportFrom) else ""
            if not origin.startswith(PACKAGE):
                kept.append(statement)
                continue
            for alias in statement.names:  # type: ignore[attr-defined]
                line = _lent(origin, alias, slicer, kept_back)
                if line is not None:
                    kept += ast.parse(line).body
        texts.append("\n".join(ast.unparse(statement) for statement in kept))
    return texts


def _lent(origin: str, alias: ast.alias, slicer: Slicer, kept_back: Sequence[str]) -> str | None:
    if alias.name in _INERT:
        return None
    module, name = home_of(origin, alias.name)
    try:
        Slicer(kept_back).add(module, name)
    except ValueError:
        return None
    slicer.add(module, name)
    slicer.hand_on(module, name)  # for cells that import it again
    return f"from {module} import {name} as {alias.asname or alias.name}"


def _distinct(
    exercise: Exercise, looks: Mapping[str, engine.Look]
) -> list[tuple[Property, engine.Look]]:
    """Each look once, with the first property that has it."""
    first: dict[int, tuple[Property, engine.Look]] = {}
    for prop in exercise.properties:
        first.setdefault(id(looks[prop.name]), (prop, looks[prop.name]))
    return list(first.values())


def _place(
    exercise: Exercise, prop: Property, part: str, number: int, slicer: Slicer
) -> tuple[str, str]:
    """The module and name of a property's function; one without a name gets one."""
    function = getattr(prop, part) or getattr(exercise, part)
    if inspect.isfunction(function) and "<" not in function.__qualname__:
        slicer.add(function.__module__, function.__qualname__)
        return function.__module__, function.__qualname__
    module = f"{PACKAGE}.checks.ch{exercise.chapter:02}"
    target = f"_{part}_{number}"
    slicer.add_expression(module, target, _written(module, exercise, prop, part))
    return module, target


def _written(module: str, exercise: Exercise, prop: Property, part: str) -> str:
    """The expression that an exercise's declaration gives a property's function with."""
    function = getattr(prop, part)
    names = {p.name for p in exercise.properties if getattr(p, part) is function}
    for call in ast.walk(module_tree(module)):
        if not _is_call(call, "Exercise") or _argument(call, "id") != exercise.id:
            continue
        for inner in ast.walk(call):
            if _is_call(inner, "Property") and _argument(inner, "name", 0) in names:
                order = ("name", "statement", "observe", "judge", "cases")
                node = _node(inner, part, order.index(part))
                if node is not None:
                    return ast.unparse(node)
    raise ValueError(f"{exercise.id}: the {part} of {prop.name!r} is not written where it is used.")


def _is_call(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _node(call: Any, name: str, place: int | None = None) -> ast.expr | None:
    if place is not None and place < len(call.args):
        return call.args[place]
    return next((k.value for k in call.keywords if k.arg == name), None)


def _argument(call: Any, name: str, place: int | None = None) -> Any:
    node = _node(call, name, place)
    return node.value if isinstance(node, ast.Constant) else None


# Reading


def _text(value: Any) -> str:
    if type(value) is not str:
        raise wire.Malformed("a text is none")
    return _characters(value[:_MAX_TEXT])


def _characters(text: str) -> str:
    """Half of a surrogate pair is no character: no report could hold it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _readable(data: Any) -> Any:
    """The same data with texts that may be written to a file: messages quote them."""
    match data:
        case str():
            return _characters(data)
        case list() | tuple() | set() | frozenset():
            return type(data)(map(_readable, data))
        case dict():
            return {_readable(key): _readable(item) for key, item in data.items()}
    return data


def _read_entries(seen: Any, sizes: Sequence[int]) -> list[tuple[Value | Raised, ...]]:
    """For each look, an entry for each of its calls."""
    fits = type(seen) is list and len(seen) == len(sizes)
    if not fits or any(
        type(entries) is not list or len(entries) != size
        for entries, size in zip(seen, sizes, strict=True)
    ):
        raise wire.Malformed("there are more or fewer observations than were asked for")
    return [tuple(_read_entry(entry) for entry in entries) for entries in seen]


def _read_entry(entry: Any) -> Value | Raised:
    match entry:
        case ("value", data, tuple(changed)):
            return Value(_readable(data), tuple(_text(name) for name in changed[:20]))
        case ("raised", *rest):
            return _read_raised(tuple(rest))
    raise wire.Malformed("an observation is none")


def _read_raised(error: Any) -> Raised:
    match error:
        case (name, message, None | int() as number, line, bool(in_answer), bool(late)) if (
            number is None or (type(number) is int and 0 <= number <= _MAX_LINE)
        ):
            return Raised(_text(name), _text(message), number, _text(line), in_answer, late)
    raise wire.Malformed("an error is none")


def _of_value(
    exercise: Exercise, seed: int, entries: list[tuple[Value | Raised, ...]]
) -> Recording:
    """The recording of a value that came as data: it is looked at here."""
    ((entry,),) = entries
    if isinstance(entry, Raised):
        return engine.recording_of({p.name: (entry,) for p in exercise.properties}, "")
    return engine.run(exercise, entry.data, seed=seed)
