"""The part of the package that an exercise needs in the sandbox, and nothing more.

To observe an answer takes the exercise's ``observe`` functions and what these call; to solve it may
take pieces of earlier chapters. Both are cut out of the package's sources, definition by
definition, so that no reference, no judge, no misconception and no other exercise goes along. The
result is a source text for each module, without docstrings and annotations.
"""

import ast
import builtins
import copy
import dataclasses
import functools
import importlib.util
import symtable
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "course_pkg"
_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__"}

_HAND_ON = """\
import importlib
_HOME = {homes!r}
def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"there is no {{name}} of the package here: write it yourself")
    return getattr(importlib.import_module(_HOME[name]), name)
"""


@dataclasses.dataclass(frozen=True, order=True)
class Name:
    """A definition at the top level of a module."""

    module: str
    name: str


class Slicer:
    """Collects definitions and everything that they use.

    Args:
        withheld: names that must not go along: ``"course_pkg.transformer.GELU"``, or
            ``"course_pkg.gpt.GPT.forward"`` for a method, whose body is then left out.
    """

    def __init__(self, withheld: Iterable[str] = ()) -> None:
        self._withheld = frozenset(withheld)
        self._taken: dict[Name, None] = {}  # in the order in which they were met
        self._lines: dict[str, list[str]] = {}  # what is added to a module
        self._handed_on: dict[str, str] = {}

    def add(self, module: str, name: str) -> None:
        """Take a definition along.

        Raises:
            ValueError: the module has no such name, or it is withheld, or it needs one that is.
        """
        found = Name(module, name)
        if found in self._taken:
            return
        if f"{module}.{name}" in self._withheld:
            raise ValueError(f"{module}.{name} is withheld.")
        self._taken[found] = None
        statement = _definitions(module).get(name)
        if statement is None:
            raise ValueError(f"{module} defines no {name!r}.")
        self._follow(module, statement, name)

    def add_expression(self, module: str, target: str, expression: str) -> None:
        """Add ``target = expression`` to a module, with what the expression needs."""
        self._lines.setdefault(module, []).append(f"{target} = {expression}")
        self._needs(module, _Cut.of(ast.parse(expression)))

    def add_line(self, module: str, line: str) -> None:
        """Add a line to a module, which may import names that were added."""
        self._lines.setdefault(module, []).append(line)

    def hand_on(self, module: str, name: str) -> None:
        """Let the package itself have a name that was added, as the real one has it."""
        self._handed_on[name] = module

    def _follow(self, module: str, statement: ast.stmt, name: str) -> None:
        if isinstance(statement, ast.ImportFrom):
            origin = statement.module or ""
            if not origin.startswith(PACKAGE):
                return
            alias = next(a for a in statement.names if (a.asname or a.name) == name)
            if _is_module(f"{origin}.{alias.name}"):
                return  # `from course_pkg import attention`: its attributes are followed instead
            self.add(*home_of(origin, alias.name))
        elif not isinstance(statement, ast.Import):
            self._needs(module, self._cut(module, name))

    def _needs(self, module: str, cut: "_Cut") -> None:
        definitions = _definitions(module)
        for name in cut.needs:
            if name not in definitions:
                if name in _BUILTINS:
                    continue
                raise ValueError(f"{module}: {name!r} is neither defined nor imported.")
            self.add(module, name)
            statement = definitions[name]
            if isinstance(statement, ast.ImportFrom):
                alias = next(a for a in statement.names if (a.asname or a.name) == name)
                whole = f"{statement.module}.{alias.name}"
                if whole.startswith(PACKAGE) and _is_module(whole):
                    for attribute in _attributes_of(cut.node, name):
                        self.add(*home_of(whole, attribute))

    def _cut(self, module: str, name: str) -> "_Cut":
        inside = f"{module}.{name}."
        return _cut_out(module, name, frozenset(w for w in self._withheld if w.startswith(inside)))

    @property
    def names(self) -> list[Name]:
        """What was taken along."""
        return sorted(self._taken)

    def sources(self, besides: "Slicer | None" = None) -> dict[str, str]:
        """The text of each module by its name; packages on the way are there too.

        What ``besides`` has taken along is left out.
        """
        there = set() if besides is None else set(besides._taken)
        wanted: dict[str, set[str]] = {module: set() for module in self._lines}
        for found in self._taken:
            if found not in there:
                wanted.setdefault(found.module, set()).add(found.name)
        texts = {module: self._text(module, names) for module, names in wanted.items()}
        if self._handed_on:
            texts[PACKAGE] = _HAND_ON.format(homes=self._handed_on)
        for module in list(texts):
            parts = module.split(".")
            for size in range(1, len(parts)):
                texts.setdefault(".".join(parts[:size]), "")
        return dict(sorted(texts.items()))

    def _text(self, module: str, names: set[str]) -> str:
        parts = []
        done: set[int] = set()
        definitions = _definitions(module) if names else {}
        lines = {id(definitions[name]): definitions[name].lineno for name in names}
        by_place = sorted(names, key=lambda name: (lines[id(definitions[name])], name))
        for name in by_place:
            statement = definitions[name]
            if isinstance(statement, ast.Import | ast.ImportFrom):
                parts.append(ast.unparse(_only(statement, name)))
            elif id(statement) not in done:
                done.add(id(statement))
                parts.append(self._cut(module, name).text)
        return "\n".join([*parts, *self._lines.get(module, [])]) + "\n"


@functools.cache
def module_tree(module: str) -> ast.Module:
    """The source of a module, parsed; it is not imported for that."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module!r}.")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


@functools.cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statement that binds each name at a module's top level."""
    return {name: node for node in module_tree(module).body for name in bound_by(node)}


def bound_by(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement binds in its own scope."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def home_of(module: str, name: str) -> tuple[str, str]:
    """Where a name is defined: ``course_pkg`` itself only hands on what its modules define."""
    if module == PACKAGE:
        package = importlib.import_module(PACKAGE)
        return f"{PACKAGE}.{package._HOME[name]}", name
    return module, name


def _only(statement: ast.Import | ast.ImportFrom, name: str) -> ast.stmt:
    kept = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) == name]
    if isinstance(statement, ast.ImportFrom) and statement.module == PACKAGE:
        whole = f"{PACKAGE}.{kept[0].name}"
        if not _is_module(whole):
            home, _ = home_of(PACKAGE, kept[0].name)
            return ast.ImportFrom(home, kept, 0)
    trimmed = copy.copy(statement)
    trimmed.names = kept
    return trimmed


def globals_of(node: ast.AST) -> set[str]:
    """The names that a piece of code looks up outside of itself."""
    table = symtable.symtable(ast.unparse(node), "<slice>", "exec")
    top = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    own = {s.get_name() for s in table.get_symbols() if s.is_assigned()}
    inner = {
        symbol.get_name()
        for child in _scopes(table)
        for symbol in child.get_symbols()
        if symbol.is_global() and symbol.is_referenced()
    }
    return (top | inner) - own


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _attributes_of(node: ast.AST, name: str) -> set[str]:
    return {
        n.attr
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name
    }


class _Trimmer(ast.NodeTransformer):
    """Leaves out docstrings, annotations of functions, and the bodies of withheld methods."""

    def __init__(self, where: str, withheld: frozenset[str], in_class: bool = False) -> None:
        self._where = where
        self._withheld = withheld
        self._in_class = in_class

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        inner = _Trimmer(f"{self._where}.{node.name}", self._withheld, in_class=True)
        node.body = [inner.visit(statement) for statement in _without_docstring(node.body)]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        for argument in (*every, arguments.vararg, arguments.kwarg):
            if argument is not None:
                argument.annotation = None
        node.returns = None
        if f"{self._where}.{node.name}" in self._withheld:
            node.body = [ast.Pass()]
        else:
            node.body = _without_docstring(node.body)
            self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._in_class or node.value is None:  # a dataclass counts its annotations
            node.annotation = ast.Name("object", ast.Load())
            return node
        return ast.Assign([node.target], node.value, lineno=node.lineno)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest or [ast.Pass()]
    return body


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A piece of code that goes along: its tree, its text, and the names it looks up outside."""

    node: ast.AST
    text: str
    needs: tuple[str, ...]

    @classmethod
    def of(cls, node: ast.AST) -> "_Cut":
        return cls(node, ast.unparse(node), tuple(sorted(globals_of(node))))


@functools.cache
def _cut_out(module: str, name: str, withheld: frozenset[str]) -> _Cut:
    statement = copy.deepcopy(_definitions(module)[name])
    return _Cut.of(ast.fix_missing_locations(_Trimmer(module, withheld).visit(statement)))
