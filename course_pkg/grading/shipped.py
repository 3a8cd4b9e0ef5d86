"""The package that students get: the finished pieces, and checks without solutions.

A chapter's checks are cut in two. What observes an answer, judges what was seen and makes the
inputs is code, and goes along definition by definition (``slices``). What the reference and the
misconceptions show is recorded as data (``recorded``), and their code stays here.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_pkg.checks import engine
from course_pkg.checks.compare import plain
from course_pkg.checks.engine import Exercise, Property
from course_pkg.grading import recorded, wire
from course_pkg.grading.slices import Slicer, bound_by

if TYPE_CHECKING:
    from course_pkg.authoring.exercises import Solutions

# What a chapter's notebook may import, and what a check runs with. The files go along as they are.
_AS_THEY_ARE = (
    "LICENSE",
    "LICENSE-TEXT",
    "course_pkg/*.py",
    "course_pkg/authoring/__init__.py",
    "course_pkg/authoring/figures.py",
    "course_pkg/checks/*.py",
    "course_pkg/checks/curves.json",
    "course_pkg/corpora/*",
    "course_pkg/grading/__init__.py",
    "course_pkg/grading/recorded.py",
    "course_pkg/grading/wire.py",
    "course_pkg/models/*/*",
)
# The command line works on the repository's notebooks and runs; a chapter's checks are cut.
_LEFT_OUT = (
    "course_pkg/cli.py",
    "course_pkg/doctor.py",
    "course_pkg/learning.py",
    "course_pkg/checks/__init__.py",
    "course_pkg/checks/ch[0-9][0-9].py",
    "course_pkg/checks/mine.py",
    "course_pkg/checks/notebooks.py",
)
_CHECKS = '''\
"""What the exercises ask for, and how an answer is held against it."""

from course_pkg.checks.engine import CheckFailed, all_exercises
from course_pkg.grading.recorded import check

__all__ = ["CheckFailed", "all_exercises", "check"]
'''
_IS_VALUE = "The answer is a value, and a check that you can read would give it away."
_IS_TOLD = "A check that you can read would show the solution."
_FIELDS = tuple(field.name for field in dataclasses.fields(Property))


@dataclasses.dataclass(frozen=True)
class Package:
    """Files by their paths, and what is checked only when it is handed in.

    ``unchecked`` says for an exercise why nothing of it is checked, ``properties`` which of its
    properties are not.
    """

    files: dict[str, bytes]
    unchecked: dict[str, str]
    properties: dict[str, tuple[str, ...]]


def package(root: Path, pages: Sequence["Solutions"], tells: Callable[[str], bool]) -> Package:
    """The students' package for some chapters.

    Args:
        root: the repository.
        pages: the chapters' solutions.
        tells: whether a text holds a line of a solution; a property whose code does stays here.

    Raises:
        ValueError: a notebook imports what cannot go along, or what is shown is no plain data.
    """
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for pattern in _AS_THEY_ARE
        for path in sorted(root.glob(pattern))
        if path.is_file() and not any(path.relative_to(root).match(p) for p in _LEFT_OUT)
    }
    files["course_pkg/checks/__init__.py"] = _CHECKS.encode()
    files["pyproject.toml"] = _pyproject(root).encode()
    unchecked: dict[str, str] = {}
    properties: dict[str, tuple[str, ...]] = {}
    folder = "course_pkg/checks/recordings"
    for page in pages:
        chapter = _Chapter(f"ch{page.stem[:2]}", tells)
        for exercise in page.exercises:
            declared = engine.find_exercise(exercise.id)
            if declared.answer_is_value:
                unchecked[exercise.id] = _IS_VALUE
                continue
            checked = chapter.add(declared)
            if not checked:
                unchecked[exercise.id] = _IS_TOLD
                continue
            files[f"{folder}/{exercise.id}.bin"] = recorded.shown_on(declared, checked)
            left = tuple(p.name for p in declared.properties if p.name not in checked)
            if left:
                properties[exercise.id] = left
        given = {name: chapter.give(name) for name in _imported(page, chapter.module)}
        if given:
            files[f"{folder}/{chapter.name}.given.bin"] = wire.encode(given)
        files[f"course_pkg/checks/{chapter.name}.py"] = chapter.source().encode()
    told = {"exercises": unchecked, "properties": properties}
    files[f"{folder}/{recorded.UNCHECKED}"] = (json.dumps(told, indent=1) + "\n").encode()
    return Package(files, unchecked, properties)


def _pyproject(root: Path) -> str:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plots = [x for x in project["optional-dependencies"]["book"] if x.startswith("matplotlib")]
    needed = "".join(f"    {json.dumps(name)},\n" for name in [*project["dependencies"], *plots])
    return f"""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{project["name"]}"
version = "{project["version"]}+students"
description = "{project["description"]}"
requires-python = "{project["requires-python"]}"
license = "{project["license"]}"
license-files = ["LICENSE", "LICENSE-TEXT"]
dependencies = [
{needed}]

[tool.setuptools.packages.find]
include = ["course_pkg*"]

[tool.setuptools.package-data]
course_pkg = ["checks/*.json", "checks/recordings/*", "corpora/*", "models/**/*"]
"""


class _Chapter:
    """Collects the code of one chapter's checks."""

    def __init__(self, name: str, tells: Callable[[str], bool]) -> None:
        self.name = name
        self._tells = tells
        self.module = f"course_pkg.checks.{name}"
        self._parts: list[str] = []
        self._axes: list[str] = []
        self._given: list[str] = []

    def add(self, exercise: Exercise) -> tuple[str, ...]:
        """Take along what an exercise's check runs; gives the properties for which that works."""
        taken = {}
        whole = _written(self.module)[exercise.id, None]
        for prop in exercise.properties:
            written = dict(_written(self.module).get((exercise.id, prop.name), {}))
            if prop.cases is None and "cases" in whole:
                written["cases"] = whole["cases"]
            functions = {
                "observe": None if prop.observe is engine.call else prop.observe,
                "judge": prop.judge,
                "cases": prop.cases or exercise.cases,
            }
            arguments = {
                field: written.get(field) or self._named(function)
                for field, function in functions.items()
                if function is not None
            }
            calls = engine.draw(prop.cases or exercise.cases, engine.SEED)
            if self._can_go_along(_dict_of(arguments)):
                taken[prop.name] = _dict_of(arguments)
                continue
            del arguments["cases"]  # what they are made with is withheld: the inputs are recorded
            if recorded.can_play_back(calls) and self._can_go_along(_dict_of(arguments)):
                taken[prop.name] = _dict_of(arguments)
        if not taken:
            return ()
        inner = ", ".join(f"{name!r}: {text}" for name, text in taken.items())
        self._parts.append(f"{exercise.id!r}: {{{inner}}}")
        if "axes" in whole and self._can_go_along(whole["axes"]):
            self._axes.append(f"{exercise.id!r}: {whole['axes']}")
        return tuple(taken)

    def _named(self, function: Callable[..., Any]) -> str:
        """The name that a function has in the chapter's module, or nothing."""
        name = function.__name__
        return name if getattr(importlib.import_module(self.module), name, None) is function else ""

    def _can_go_along(self, expression: str) -> bool:
        slicer = Slicer(withheld(self.name))
        try:
            slicer.add_expression(self.module, "_", expression)
        except (SyntaxError, ValueError):
            return False
        return bool(expression) and not self._tells(slicer.sources()[self.module])

    def give(self, name: str) -> Any:
        """What the notebook imports by this name, as plain data.

        Raises:
            ValueError: the checks have no such name.
        """
        if not hasattr(importlib.import_module(self.module), name):
            raise ValueError(f"a notebook imports {name!r} from {self.module}, which has none.")
        value = getattr(importlib.import_module(self.module), name)
        read = f"recorded.given({self.name!r}, {name!r})"
        if callable(value):
            self._given.append(f"def {name}():\n    return {read}")
            value = value()
        else:
            self._given.append(f"{name} = {read}")
        return plain(value)

    def source(self) -> str:
        """The text of the chapter's module.

        Raises:
            ValueError: it needs code of another chapter's checks.
        """
        slicer = Slicer(withheld(self.name))
        slicer.add_expression(self.module, "_PARTS", f"{{{', '.join(self._parts)}}}")
        slicer.add_expression(self.module, "_AXES", f"{{{', '.join(self._axes)}}}")
        slicer.add_line(self.module, "from course_pkg.grading import recorded")
        slicer.add_line(self.module, "EXERCISES = recorded.exercises(_PARTS, _AXES)")
        for line in self._given:
            slicer.add_line(self.module, line)
        sources = slicer.sources()
        for module in sources:
            if module in _chapter_modules() and module != self.module:
                raise ValueError(f"{self.module} needs code of {module}: it cannot go along.")
        return sources[self.module]


def _dict_of(arguments: Mapping[str, str]) -> str:
    return f"dict({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _imported(page: "Solutions", module: str) -> list[str]:
    """The names that a chapter's notebook imports from its checks."""
    from course_pkg.authoring.exercises import student_notebook

    names: list[str] = []
    for cell in student_notebook(page).cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module not in _chapter_modules():
                continue
            if node.module != module:
                raise ValueError(f"{page.stem}.md imports from {node.module}, another chapter's.")
            names += [alias.name for alias in node.names]
    return names


def _chapter_modules() -> list[str]:
    return [f"course_pkg.checks.{name}" for name in engine.chapters()]


@functools.cache
def withheld(chapter: str) -> frozenset[str]:
    """The references of a chapter, ``"ch03"``, what they are made of, and its misconceptions.

    Full names of what the chapter's module defines.
    """
    module = f"course_pkg.checks.{chapter}"
    names: set[str] = set()
    for exercise in engine.load_chapter(chapter):
        for answer in (exercise.reference, *(m.answer for m in exercise.misconceptions)):
            if getattr(answer, "__module__", None) == module:
                names.add(answer.__qualname__.partition(".<locals>")[0])
    slicer = Slicer()
    for call in _calls(module, "Exercise"):
        slicer.add_expression(module, "_", ast.unparse(_arguments(call, ())["reference"]))
    names |= {found.name for found in slicer.names if found.module == module}
    return frozenset(f"{module}.{name}" for name in names & set(_defined(module)))


def _defined(module: str) -> Iterator[str]:
    """What a module binds at its top level other than by an import."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            yield from bound_by(statement)


@functools.cache
def _written(module: str) -> dict[tuple[str, str | None], dict[str, str]]:
    """How the parts of each property are written in ``EXERCISES``, by exercise and property.

    A part may be the result of a call, such as ``_third_zeroed(0)``, and has then no name. Those
    of the exercise itself stand under ``None``.
    """
    found: dict[tuple[str, str | None], dict[str, str]] = {}
    for call in _calls(module, "Exercise"):
        own = _arguments(call, ())
        name = ast.literal_eval(own["id"])
        found[name, None] = {field: ast.unparse(value) for field, value in own.items()}
        items = own["properties"].elts if isinstance(own["properties"], ast.Tuple) else []
        for item in items:
            fields = _arguments(item, _FIELDS) if isinstance(item, ast.Call) else {}
            if isinstance(fields.get("name"), ast.Constant):
                written = {field: ast.unparse(value) for field, value in fields.items()}
                found[name, ast.literal_eval(fields["name"])] = written
    return found


def _calls(module: str, name: str) -> Iterator[ast.Call]:
    source = inspect.getsource(importlib.import_module(module))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _arguments(call: ast.Call, positions: Sequence[str]) -> dict[str, ast.expr]:
    given = dict(zip(positions, call.args, strict=False))
    return given | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
