"""Are the checks strict enough? Break each solution in many small ways, and see what is noticed.

    .venv/bin/python tests/mutation.py 03                              # one chapter
    .venv/bin/python tests/mutation.py 03 --exercise 03.split_heads    # one exercise
    .venv/bin/python tests/mutation.py 03 --list                       # each mutant and its fate
    .venv/bin/python tests/mutation.py --sample                        # what CI does

A mutant is the solution cell of ``solutions/NN_*.md`` with one small change between
``### BEGIN SOLUTION`` and ``### END SOLUTION``: another operator, a constant off by one, an axis
taken for its neighbour, a call, an argument or a statement left out. It runs in the names that the
cells before it make, as in the learner's notebook, and what it makes is handed to the exercise's
own check. A mutant that fails is killed; one that passes survives.

A survivor is either right too (another way to write the same, or something that the exercise leaves
open), or shows that the check asks too little. Strengthen the check, or, if the mutant is right,
list it in ``tests/survivors/chNN.json``, a list sorted as this program prints it, of

    {"exercise": "03.split_heads", "mutant": "x.shape[-1] -> x.shape[2]", "equivalent": true,
     "reason": "x has three axes, so the last one is axis 2."}

``mutant`` is the text after ``line N:`` exactly as printed (the line may move, the text stays; a
second change with the same text in one exercise ends in `` #2``). ``equivalent`` is true where no
input that the exercise allows tells the mutant from a right answer, or where both are right by the
exercise's own words (a tolerance of 5 %, an arbitrary seed); it is false where the check could
notice and does not, which then counts against the kill rate. ``reason`` says why in a sentence.
``--write`` adds survivors that are not listed with an empty reason, which a test refuses, and drops
those that are gone.

All mutants take minutes, so CI tries the listed survivors and one in ``SHARE`` of the others. Which
ones depends on the text of the solutions and of the checks: each change of them draws anew.
"""

import argparse
import ast
import builtins
import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import io
import json
import os
import signal
import sys
import time
import types
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import torch

from course_pkg.authoring import exercises, formats
from course_pkg.checks import engine
from course_pkg.files import atomic_write

ROOT = Path(__file__).parents[1]
SURVIVORS = Path(__file__).parent / "survivors"
# A mutant may take this many times as long as the solution, and a second more, of the processor's
# time and not of the clock's: a busy machine kills no mutant.
TIMES_SLOWER = 5
MEMORY = 2**30  # what a mutant may take on top of what is in use
SHARE = 12

Verdict = Literal["survived", "value", "raise", "time"]

_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_COMMUTE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)
_SIBLINGS = [
    ("min", "max"), ("sum", "mean"), ("any", "all"), ("amin", "amax"), ("argmin", "argmax"),
    ("tril", "triu"), ("zeros", "ones"), ("zeros_like", "ones_like"), ("zeros_", "ones_"),
    ("log", "exp"), ("softmax", "log_softmax"), ("sin", "cos"), ("floor", "ceil"), ("var", "std"),
    ("tanh", "sigmoid"), ("rand", "randn"), ("find", "rfind"), ("cumsum", "cumprod"),
    ("values", "indices"), ("logical_and", "logical_or"), ("startswith", "endswith"),
    ("lower", "upper"), ("union", "intersection"), ("minimum", "maximum"),
]  # fmt: skip
_OTHER_NAME = {a: b for pair in _SIBLINGS for a, b in (pair, pair[::-1])}
# Leaving these out hands on something that nobody could mistake for the result.
_STAY = {"super", "range", "zip", "enumerate", "len", "print", "isinstance", "dict", "next"}
# The order of their first two arguments changes nothing.
_SYMMETRIC = {"transpose", "transpose_", "swapaxes", "maximum", "minimum", "allclose", "equal"}


class TimeIsUpError(BaseException):
    """A mutant used up its time; not an ``Exception``, so that no answer can catch it."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One changed solution cell; ``key`` names it in ``tests/survivors``."""

    exercise: str
    line: int
    key: str
    source: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """An exercise's solution cell and what is there before it runs."""

    exercise: str
    source: str
    first_line: int  # of the page
    lines: frozenset[int]  # of the cell: what the learner writes
    names: dict[str, Any]
    answer: str  # the expression that the check cell hands in

    def hand_in(self, source: str | None = None) -> Any:
        """Run the cell, or a mutant of it, and give what the learner would hand in."""
        names = dict(self.names)
        exec(compile(source or self.source, f"<{self.exercise}>", "exec"), names)
        return eval(compile(self.answer, "<check>", "eval"), names)


def chapters() -> list[int]:
    return sorted(int(path.name[:2]) for path in (ROOT / "solutions").glob("[0-9][0-9]_*.md"))


@functools.cache
def cells(chapter: int) -> dict[str, Cell]:
    """The solution cells of a chapter by the id of their exercise, in the page's order."""
    (path,) = (ROOT / "solutions").glob(f"{chapter:02}_*.md")
    text = path.read_text(encoding="utf-8")
    page = exercises.read_solutions(path)
    names: dict[str, Any] = {"__name__": "__main__"}
    found: dict[str, Cell] = {}
    with _quiet(), engine._global_generators(engine.SEED):
        for cell in page.preamble:
            _run_given(cell, names)
        for exercise in page.exercises:
            for cell in exercise.cells:
                if "exercise" in cell.metadata:
                    region = exercises._regions(cell.source, exercise.id)
                    found[exercise.id] = Cell(
                        exercise.id,
                        cell.source,
                        text[: text.index(cell.source)].count("\n") + 1,
                        frozenset(n + 1 for start, end in region for n in range(start, end + 1)),
                        dict(names),
                        _handed_in(exercise),
                    )
                _run_given(cell, names)
    return found


def _run_given(cell: Any, names: dict[str, Any]) -> None:
    tagged = formats.has_tag(cell, "solution") or formats.has_tag(cell, "check")
    if cell.cell_type == "code" and not tagged:
        exec(compile(cell.source, "<given>", "exec"), names)


def _handed_in(exercise: exercises.Exercise) -> str:
    for cell in exercise.cells:
        if cell.cell_type != "code" or not formats.has_tag(cell, "check"):
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if (
                isinstance(node, ast.Call)
                and len(node.args) > 1
                and isinstance(node.args[0], ast.Constant)
                and node.args[0].value == exercise.id
            ):
                return ast.unparse(node.args[1])
    raise ValueError(f"{exercise.id}: no check cell hands anything in.")


# Making mutants.


@dataclasses.dataclass(frozen=True)
class _Place:
    """A node, where it hangs, and the statement that it belongs to."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    statement: ast.stmt

    def put(self, new: ast.AST | list[ast.AST]) -> None:
        if self.index is None:
            setattr(self.parent, self.field, new)
        else:
            items = getattr(self.parent, self.field)
            items[self.index : self.index + 1] = new if isinstance(new, list) else [new]


def mutants(cell: Cell) -> list[Mutant]:
    """Every mutant of a cell, always in the same order; no two have the same source."""
    tree = ast.parse(cell.source)
    seen = {ast.unparse(tree)}
    keys: dict[str, int] = {}
    found = []
    other = _Others(tree, cell.names)
    for place in list(_places(tree, cell.lines)):
        for new in other.of(place):
            before = _text(place.statement)
            container = getattr(place.parent, place.field)
            kept = list(container) if isinstance(container, list) else container
            place.put(new)
            try:
                source = ast.unparse(ast.fix_missing_locations(tree))
                whole = place.node is place.statement
                after = "\n".join(map(_text, _as_list(new))) if whole else _text(place.statement)
            finally:
                if isinstance(container, list):
                    container[:] = kept
                else:
                    setattr(place.parent, place.field, kept)
            if source in seen:
                continue
            seen.add(source)
            key = _shorten(before, after)
            keys[key] = keys.get(key, 0) + 1
            if keys[key] > 1:
                key = f"{key} #{keys[key]}"
            line = cell.first_line + place.node.lineno - 1  # type: ignore[attr-defined]
            found.append(Mutant(cell.exercise, line, key, source))
    return found


def _as_list(new: ast.AST | list[ast.AST]) -> list[ast.AST]:
    return new if isinstance(new, list) else [new]


def _places(tree: ast.AST, lines: frozenset[int]) -> Iterator[_Place]:
    def inside(node: ast.AST, statement: ast.stmt | None) -> Iterator[_Place]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "ctx", "op", "ops"):
                continue
            items = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, child in items:
                if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                    continue
                owner = child if isinstance(child, ast.stmt) else statement
                if _is_docstring(child):
                    continue
                if owner is not None and getattr(child, "lineno", None) in lines:
                    yield _Place(node, field, index, child, owner)
                signed = isinstance(child, ast.UnaryOp) and _number(child) is not None
                if not signed:
                    yield from inside(child, owner)

    return inside(tree, None)


def _is_docstring(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text and isinstance(node.value.value, str)


def _text(statement: ast.AST) -> str:
    """A statement in one line; of one with a body, only what is before the colon."""
    if isinstance(statement, ast.Pass):
        return "(nothing)"
    if hasattr(statement, "body") and isinstance(statement.body, list):
        statement = copy.copy(statement)
        statement.body = [ast.Expr(ast.Constant(...))]  # type: ignore[attr-defined]
        for field in ("orelse", "finalbody", "handlers"):
            if hasattr(statement, field):
                setattr(statement, field, [])
        return ast.unparse(statement).removesuffix("...").strip()
    return ast.unparse(statement)


def _shorten(before: str, after: str, room: int = 60, around: int = 16) -> str:
    """``before -> after`` with what both share cut down to what is near the change."""
    if len(before) <= room or len(after) <= 12:
        return f"{before} -> {after}"
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    end = 0
    while end < min(len(before), len(after)) - same and before[-1 - end] == after[-1 - end]:
        end += 1
    start = max(0, same - around)
    cut = max(0, end - around)

    def part(text: str) -> str:
        middle = text[start : len(text) - cut]
        return ("…" if start else "") + middle + ("…" if cut else "")

    return f"{part(before)} -> {part(after)}"


def _number(node: ast.AST) -> int | float | None:
    """The value of a literal number, sign included; ``True`` is none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None or isinstance(node.operand, ast.UnaryOp) else -value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    return None


def _literal(value: int | float) -> ast.expr:
    if value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


class _Others:
    """What could stand in place of a node."""

    def __init__(self, tree: ast.Module, names: dict[str, Any]) -> None:
        self.names = names
        self.partners = _partners(tree)
        self.attributes = _attributes(tree)

    def of(self, place: _Place) -> Iterator[ast.AST | list[ast.AST]]:
        node = place.node
        number = _number(node)
        if number is not None:
            yield from self._numbers(number)
            return
        if isinstance(node, ast.stmt):
            yield from self._statements(place)
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is not None:
            yield from method(place)
        if isinstance(node, ast.expr) and place.field == "test":
            yield ast.UnaryOp(ast.Not(), node)
            if isinstance(place.parent, ast.If):
                yield ast.Constant(True)
            if isinstance(place.parent, ast.If | ast.While):
                yield ast.Constant(False)
        bound = isinstance(place.parent, ast.Slice)
        call = place.parent
        in_range = isinstance(call, ast.Call) and ast.unparse(call.func) == "range"
        if isinstance(node, ast.expr) and (bound or (in_range and place.field == "args")):
            yield ast.BinOp(node, ast.Add(), ast.Constant(1))
            yield ast.BinOp(node, ast.Sub(), ast.Constant(1))

    def _numbers(self, number: int | float) -> Iterator[ast.AST]:
        if isinstance(number, int):
            candidates: list[int | float] = [number + 1, number - 1, 0, -number]
        else:
            candidates = [2 * number, number + 1, 0.0, -number]
        for value in dict.fromkeys(candidates):
            if value != number:
                yield _literal(value)

    def _statements(self, place: _Place) -> Iterator[ast.AST | list[ast.AST]]:
        node = place.node
        dropped = (ast.Expr, ast.Assign, ast.AugAssign, ast.For, ast.While, ast.If, ast.Raise)
        if isinstance(node, (*dropped, ast.Delete, ast.Nonlocal, ast.Global, ast.Assert)):
            yield ast.Pass()
        match node:
            case ast.With():
                yield list(node.body)
            case ast.AugAssign():
                yield ast.Assign([node.target], node.value)
                if type(node.op) in _OPERATORS:
                    yield ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value)
            case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
                yield ast.Return(ast.Constant(None))
            case ast.Break():
                yield ast.Continue()
            case ast.Continue():
                yield ast.Break()
            case ast.FunctionDef() if node.decorator_list:
                for i in range(len(node.decorator_list)):
                    kept = node.decorator_list[:i] + node.decorator_list[i + 1 :]
                    changed = copy.copy(node)
                    changed.decorator_list = kept
                    yield changed

    def _compare(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Compare)
        for i, op in enumerate(node.ops):
            for other in _COMPARISONS[type(op)]:
                ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)

    def _binop(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.BinOp)
        if type(node.op) in _OPERATORS:
            yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
        yield node.left
        yield node.right
        if not isinstance(node.op, _COMMUTE):
            yield ast.BinOp(node.right, node.op, node.left)

    def _unaryop(self, place: _Place) -> Iterator[ast.AST]:
        assert isinstance(place.node, ast.UnaryOp)
        yield place.node.operand

    def _boolop(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.BoolOp)
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)

    def _constant(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Constant)
        value = node.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, str | bytes):
            filler = "x" if isinstance(value, str) else b"x"
            yield ast.Constant(type(value)() if value else filler)

    def _ifexp(self, place: _Place) -> Iterator[ast.AST]:
        assert isinstance(place.node, ast.IfExp)
        yield place.node.body
        yield place.node.orelse

    def _comprehension(self, place: _Place) -> Iterator[ast.AST]:
        return iter(())  # has no line of its own; see _listcomp

    def _listcomp(self, place: _Place) -> Iterator[ast.AST]:
        node: Any = place.node
        for i, generator in enumerate(node.generators):
            for j, test in enumerate(generator.ifs):
                for ifs in (
                    generator.ifs[:j] + generator.ifs[j + 1 :],
                    [*generator.ifs[:j], ast.UnaryOp(ast.Not(), test), *generator.ifs[j + 1 :]],
                ):
                    changed = copy.copy(node)
                    other = copy.copy(generator)
                    other.ifs = ifs
                    changed.generators = [*node.generators[:i], other, *node.generators[i + 1 :]]
                    yield changed

    _generatorexp = _setcomp = _dictcomp = _listcomp

    def _slice(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Slice)
        if node.lower is not None:
            yield ast.Slice(None, node.upper, node.step)
        if node.upper is not None:
            yield ast.Slice(node.lower, None, node.step)
        if node.step is not None:
            yield ast.Slice(node.lower, node.upper, None)
        if node.lower is None and node.upper is not None:
            yield ast.Slice(ast.Constant(1), node.upper, node.step)
        if node.lower is not None and node.upper is None:
            yield ast.Slice(node.lower, _literal(-1), node.step)

    def _list(self, place: _Place) -> Iterator[ast.AST]:
        node: Any = place.node
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return
        for items in _rearranged(node.elts, swap=not _is_unordered(place)):
            if items or isinstance(node, ast.List | ast.Tuple):
                changed = copy.copy(node)
                changed.elts = items
                yield changed

    _tuple = _set = _list

    def _dict(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Dict)
        entries = list(zip(node.keys, node.values, strict=True))
        for i in range(len(entries)):
            kept = entries[:i] + entries[i + 1 :]
            yield ast.Dict([k for k, _ in kept], [v for _, v in kept])
        for i in range(len(entries) - 1):
            values = list(node.values)
            values[i], values[i + 1] = values[i + 1], values[i]
            if node.keys[i] is not None and node.keys[i + 1] is not None:
                yield ast.Dict(node.keys, values)

    def _call(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Call)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        method = isinstance(node.func, ast.Attribute) and not self._is_module(node.func.value)
        if method:
            yield node.func.value  # type: ignore[attr-defined]
        elif node.args and name not in _STAY and not name[:1].isupper():
            first = node.args[0]
            if not isinstance(first, ast.Starred | ast.GeneratorExp):
                yield first
        args = node.args
        if not any(isinstance(a, ast.Starred) for a in args):
            for i in range(len(args) - 1):
                if name in _SYMMETRIC and i == 0:
                    continue
                swapped = list(args)
                swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
                yield ast.Call(node.func, swapped, node.keywords)
            if len(args) > 1 or (args and method):
                yield ast.Call(node.func, args[:-1], node.keywords)
        for i in range(len(node.keywords)):
            yield ast.Call(node.func, args, node.keywords[:i] + node.keywords[i + 1 :])
        if isinstance(node.func, ast.Name) and hasattr(builtins, _OTHER_NAME.get(name, "")):
            yield ast.Call(ast.Name(_OTHER_NAME[name], ast.Load()), args, node.keywords)

    def _attribute(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Attribute)
        if not isinstance(node.ctx, ast.Load):
            return
        if node.attr in ("T", "mT"):
            yield node.value
        owner = self._resolve(node.value)
        other = _OTHER_NAME.get(node.attr)
        if other is not None and (owner is None or hasattr(owner, other)):
            yield ast.Attribute(node.value, other, ast.Load())
        for other in _neighbours(self.attributes.get(ast.unparse(node.value), []), node.attr):
            yield ast.Attribute(node.value, other, ast.Load())

    def _name(self, place: _Place) -> Iterator[ast.AST]:
        node = place.node
        assert isinstance(node, ast.Name)
        called = isinstance(place.parent, ast.Call) and place.field == "func"
        if isinstance(node.ctx, ast.Load) and not called:
            for other in self.partners.get(node.id, []):
                yield ast.Name(other, ast.Load())

    def _resolve(self, node: ast.expr) -> Any:
        """The module or class that an expression names, if it names one."""
        if isinstance(node, ast.Name):
            found = self.names.get(node.id)
        elif isinstance(node, ast.Attribute):
            found = getattr(self._resolve(node.value), node.attr, None)
        else:
            return None
        return found if isinstance(found, types.ModuleType) or inspect.isclass(found) else None

    def _is_module(self, node: ast.expr) -> bool:
        return self._resolve(node) is not None or ast.unparse(node).startswith("super()")


def _is_unordered(place: _Place) -> bool:
    """Whether the order of a display's items means nothing where it stands."""
    parent = place.parent
    if isinstance(parent, ast.keyword):
        return parent.arg in ("dim", "axis")
    any_of = isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute)
    if any_of and parent.func.attr in ("startswith", "endswith"):
        return True
    return isinstance(parent, ast.Compare) or isinstance(place.node, ast.Set)


def _rearranged(items: Sequence[ast.expr], swap: bool) -> Iterator[list[ast.expr]]:
    for i in range(len(items) - 1 if swap else 0):
        swapped = list(items)
        swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
        yield swapped
    for i in range(len(items)):
        yield [*items[:i], *items[i + 1 :]]


def _neighbours(group: Sequence[str], name: str) -> list[str]:
    """The next and the previous of a group, in a circle."""
    if name not in group or len(group) < 2:
        return []
    i = group.index(name)
    near = dict.fromkeys([group[(i + 1) % len(group)], group[i - 1]])
    return [other for other in near if other != name]


def _partners(tree: ast.Module) -> dict[str, list[str]]:
    """The names that a learner may confuse with each name.

    Those bound with it (parameters of one function, targets of one assignment), and, for a name
    that was computed from another one, that other one: it may be used too early.
    """
    partners: dict[str, dict[str, None]] = {}

    def add(name: str, others: Sequence[str]) -> None:
        partners.setdefault(name, {}).update(dict.fromkeys(others))

    bound: set[str] = set()
    for node in ast.walk(tree):
        group: list[str] = []
        if isinstance(node, ast.arguments):
            every = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            group = [a.arg for a in every if a.arg != "self"]
            bound.update(group)
        elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
            group = [item.id for item in node.elts if isinstance(item, ast.Name)]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        group = [name for name in group if name != "_"]
        for name in group:
            add(name, _neighbours(group, name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            used = [n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)]
            own = node.targets[0].id
            earlier = [name for name in used if name in bound and name != own]
            add(own, earlier[:1])
    return {name: list(others) for name, others in partners.items()}


def _attributes(tree: ast.Module) -> dict[str, list[str]]:
    """The attributes of ``self`` and ``model``, in the order in which they are written."""
    found: dict[str, dict[str, None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "model"):
            found.setdefault(ast.unparse(node.value), {})[node.attr] = None
    return {base: list(names) for base, names in found.items()}


# Judging mutants.


class _Limits:
    """Raises ``TimeIsUpError`` after so much processor time and caps memory, where systems can."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = False  # the error may have been taken for one of the answer's own
        self._active = False

    def _stop(self, *_: object) -> None:
        if self._active:
            self.over = True
            raise TimeIsUpError

    def __enter__(self) -> "_Limits":
        if not hasattr(signal, "setitimer"):
            return self  # Windows
        self._old_handler = signal.signal(signal.SIGPROF, self._stop)
        self._active = True
        self._old_cap = _cap_memory()
        signal.setitimer(signal.ITIMER_PROF, self.seconds, 0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, self._old_handler)
            if self._old_cap is not None:
                import resource

                resource.setrlimit(resource.RLIMIT_AS, self._old_cap)


def _cap_memory() -> tuple[int, int] | None:
    """Cap this process's memory; returns the cap that there was. Only Linux keeps to one."""
    if sys.platform != "linux":
        return None
    import resource

    old = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    cap = used + MEMORY
    if old[1] == resource.RLIM_INFINITY or cap < old[1]:
        resource.setrlimit(resource.RLIMIT_AS, (cap, old[1]))
    return old


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


Judge = Callable[[Any], Verdict]  # of what was handed in; it may raise


def fate(
    cell: Cell, source: str | None = None, seconds: float = 60.0, judge: Judge | None = None
) -> Verdict:
    """What the exercise's check makes of a mutant (of the solution itself, without ``source``).

    ``"value"`` is a mutant killed because something that it returned is not right, ``"raise"`` one
    that only ever raised, when it was defined or when it was called. ``judge`` stands in for the
    exercise's own check.
    """
    limits = _Limits(seconds)
    verdict: Verdict = "survived"
    judge = judge or functools.partial(_judged, engine.find_exercise(cell.exercise), limits)
    generators = engine._global_generators(engine.SEED)
    with contextlib.suppress(TimeIsUpError), _quiet(), generators, limits:
        try:
            verdict = judge(cell.hand_in(source))
        except (Exception, SystemExit):
            verdict = "raise"
    return "time" if limits.over else verdict


def _judged(exercise: engine.Exercise, limits: _Limits, answer: Any) -> Verdict:
    verdict: Verdict = "survived"
    # One property after the other: most mutants are out after the first.
    for prop in exercise.properties:
        one = dataclasses.replace(exercise, properties=(prop,))
        recording = engine.run(one, answer, time_limit=3600.0)
        if engine.judge(one, recording, known=_known(exercise.id)).status == "passed":
            continue
        entries = recording.seen.get(prop.name, ())
        if entries and not any(isinstance(e, engine.Raised) for e in entries):
            return "value"
        verdict = "raise"
        if limits.over:
            break
    return verdict


@functools.cache
def _known(exercise_id: str) -> engine.Known:
    return engine.Known(engine.find_exercise(exercise_id), engine.SEED)


@dataclasses.dataclass(frozen=True)
class Tally:
    """What became of the mutants of one exercise."""

    exercise: str
    fates: tuple[tuple[Mutant, Verdict], ...]

    def count(self, *verdicts: Verdict) -> int:
        return sum(verdict in verdicts for _, verdict in self.fates)

    @property
    def survivors(self) -> list[Mutant]:
        return [mutant for mutant, verdict in self.fates if verdict == "survived"]


def try_all(
    cell: Cell, chosen: Sequence[Mutant] | None = None, judge: Judge | None = None
) -> Tally:
    """Judge every mutant of a cell, or those that are given.

    Raises:
        RuntimeError: the solution itself does not pass, so that nothing can be learned.
    """
    fate(cell, judge=judge)  # the first run loads and computes what later ones find
    start = time.process_time()
    if fate(cell, judge=judge) != "survived":
        raise RuntimeError(f"{cell.exercise}: the solution does not pass its own check.")
    seconds = 1 + TIMES_SLOWER * (time.process_time() - start)
    chosen = mutants(cell) if chosen is None else chosen
    return Tally(cell.exercise, tuple((m, fate(cell, m.source, seconds, judge)) for m in chosen))


def sample(cell: Cell) -> list[Mutant]:
    """The listed survivors and a share of the other mutants, drawn by what decides over them."""
    chapter = int(cell.exercise[:2])
    checks = inspect.getsource(importlib.import_module(f"course_pkg.checks.ch{chapter:02}"))
    known = {(entry["exercise"], entry["mutant"]) for entry in listed(chapter)}
    return [
        mutant
        for mutant in mutants(cell)
        if (cell.exercise, mutant.key) in known
        or zlib.crc32(f"{checks}{cell.source}{mutant.key}".encode()) % SHARE == 0
    ]


# The survivors that are known.


def survivors_file(chapter: int) -> Path:
    return SURVIVORS / f"ch{chapter:02}.json"


def listed(chapter: int) -> list[dict[str, Any]]:
    """The known survivors of a chapter.

    Raises:
        ValueError: an entry is not of the form that this module's docstring gives.
    """
    path = survivors_file(chapter)
    if not path.exists():
        return []
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        fields = {"exercise": str, "mutant": str, "equivalent": bool, "reason": str}
        if set(entry) != set(fields) or any(type(entry[k]) is not t for k, t in fields.items()):
            raise ValueError(f"{path.name}: {entry!r} must have the fields {sorted(fields)}.")
    return entries


def write_listed(chapter: int, tallies: Sequence[Tally]) -> None:
    """List what survived: known reasons stay, new ones are empty, what is gone is dropped."""
    judged = {tally.exercise for tally in tallies}
    known = {(entry["exercise"], entry["mutant"]): entry for entry in listed(chapter)}
    order = list(cells(chapter))
    entries = [entry for key, entry in known.items() if key[0] not in judged and key[0] in order]
    for tally in tallies:
        for mutant in tally.survivors:
            new = {
                "exercise": tally.exercise,
                "mutant": mutant.key,
                "equivalent": False,
                "reason": "",
            }
            entries.append(known.get((tally.exercise, mutant.key), new))
    entries.sort(key=lambda entry: order.index(entry["exercise"]))
    SURVIVORS.mkdir(exist_ok=True)
    with atomic_write(survivors_file(chapter)) as file:
        file.write(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


@dataclasses.dataclass(frozen=True)
class Rate:
    """How many mutants are killed; the equivalent ones, which nobody could kill, do not count."""

    total: int
    equivalent: int
    survived: int  # of those that are not equivalent

    @property
    def share(self) -> float:
        real = self.total - self.equivalent
        return (real - self.survived) / real if real else 1.0

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(
            self.total + other.total,
            self.equivalent + other.equivalent,
            self.survived + other.survived,
        )


def listed_rate(chapter: int) -> Rate:
    """The rate of a chapter as its list of survivors says it."""
    entries = listed(chapter)
    equivalent = sum(entry["equivalent"] for entry in entries)
    total = sum(len(mutants(cell)) for cell in cells(chapter).values())
    return Rate(total, equivalent, len(entries) - equivalent)


def _report(tally: Tally, known: dict[str, dict[str, Any]], everything: bool) -> list[str]:
    """Print one exercise; returns what does not agree with the list."""
    killed = tally.count("value", "raise", "time")
    print(
        f"{tally.exercise}: {killed}/{len(tally.fates)} killed ({tally.count('raise')} only by a "
        f"raise, {tally.count('time')} by the time limit)",
        flush=True,
    )
    problems = []
    for mutant, verdict in tally.fates:
        entry = known.get(mutant.key)
        note = ""
        if verdict != "survived":
            if entry is not None:
                note = "LISTED AS A SURVIVOR"
        elif entry is None:
            note = "NOT LISTED"
        elif not entry["reason"]:
            note = "NO REASON"
        if note:
            problems.append(f"{tally.exercise}: {mutant}: {note}")
        if entry is not None and not note:
            note = f"{'equivalent' if entry['equivalent'] else 'survivor'}: {entry['reason']}"
        if everything:
            print(f"    {verdict:8} {mutant}")
        elif verdict == "survived" or note:
            print(f"    {mutant}\n        {note}")
    gone = known.keys() - {mutant.key for mutant, _ in tally.fates}
    problems += [f"{tally.exercise}: {key}: LISTED, BUT NO MUTANT" for key in sorted(gone)]
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Break the solutions and see what the checks say.")
    parser.add_argument("chapter", type=int, choices=chapters(), nargs="*")
    parser.add_argument("--exercise", help="only this one, such as 03.split_heads")
    parser.add_argument("--list", action="store_true", help="print every mutant and its fate")
    parser.add_argument("--write", action="store_true", help="bring tests/survivors up to date")
    parser.add_argument("--sample", action="store_true", help="try a share of the mutants")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    problems = []
    for chapter in options.chapter or chapters():
        entries = listed(chapter)
        chosen = [c for c in cells(chapter).values() if options.exercise in (None, c.exercise)]
        if not chosen:
            parser.error(f"chapter {chapter:02} has no exercise {options.exercise!r}")
        tallies = []
        rate = Rate(0, 0, 0)
        for cell in chosen:
            tally = try_all(cell, sample(cell) if options.sample else None)
            tallies.append(tally)
            known = {e["mutant"]: e for e in entries if e["exercise"] == cell.exercise}
            problems += _report(tally, known, options.list)
            survivors = [known.get(m.key, {"equivalent": False}) for m in tally.survivors]
            same = sum(entry["equivalent"] for entry in survivors)
            rate += Rate(len(tally.fates), same, len(survivors) - same)
        print(
            f"chapter {chapter:02}: {rate.total} mutants tried, {rate.equivalent} listed as "
            f"equivalent, {rate.survived} others survived: {rate.share:.1%} killed",
            flush=True,
        )
        if options.write:
            write_listed(chapter, tallies)
    if problems and not options.write:
        print("\nTo do:", *problems, sep="\n  ")
    return 1 if problems and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
