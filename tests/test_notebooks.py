"""The committed notebooks: executed, paired with their sources, fit to be read anywhere."""

import ast
import functools
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("jupytext")

import course_pkg
from course_pkg.authoring import exercises, formats, notebooks
from course_pkg.checks.notebooks import without_magics

ROOT = Path(__file__).parent.parent
PAGES = notebooks.sources(ROOT)
SOLUTIONS = [page for page in PAGES if page.parent.name == "solutions"]
CHAPTERS = [page for page in PAGES if page.parent.name == "book"]


def name(path):
    return path.relative_to(ROOT).as_posix()


def committed(page):
    return nbformat.read(page.with_suffix(".ipynb"), as_version=4)


def test_there_are_six_chapters_each_with_its_solutions():
    chapters = sorted(page.stem for page in CHAPTERS if page.stem[:2].isdigit())
    assert [chapter[:2] for chapter in chapters] == ["01", "02", "03", "04", "05", "06"]
    assert sorted(page.stem for page in SOLUTIONS) == chapters


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_notebook_agrees_with_its_source(page):
    assert notebooks.difference(notebooks.build(page), committed(page)) is None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_notebook_was_run_once_from_top_to_bottom_and_shows_nothing_private(page):
    notebook = committed(page)
    assert notebooks.problems(notebook, notebooks.machine_paths(ROOT)) == []
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_notebook_is_written_as_the_generator_writes_it(page):
    text = page.with_suffix(".ipynb").read_bytes().decode("utf-8")
    assert formats.to_ipynb(nbformat.reads(text, as_version=4)) == text


def test_a_section_is_named_by_its_label_and_by_a_number_only_where_there_is_no_link():
    # An exercise's notebook stands alone, so there a number is typed: it must be a section's.
    typed = re.compile(r"\b[Ss]ections?\s(\d)\.(\d+)\b")
    chapters = {int(page.stem[:2]): page for page in CHAPTERS if page.stem[:2].isdigit()}
    for page in CHAPTERS:
        ours, _, _ = page.read_text(encoding="utf-8").partition("## Further reading")  # of papers
        assert not typed.search(ours), f"{name(page)}: use numref"
    for page in SOLUTIONS:
        for chapter, section in typed.findall(page.read_text(encoding="utf-8")):
            source = formats.read(chapters[int(chapter)])
            text = "\n".join(c.source for c in source.cells if c.cell_type == "markdown")
            assert int(section) <= len(re.findall(r"(?m)^\(sec-[\w-]+\)=\n## ", text)), name(page)


def test_no_notebook_lacks_a_source():
    for folder in ("book", "solutions", "exercises"):
        for path in (ROOT / folder).glob("*.ipynb"):
            assert path.with_suffix(".md").exists(), name(path)


def test_exercises_are_what_make_exercises_makes():
    assert [name(path) for path in exercises.outdated(ROOT)] == []


@pytest.mark.parametrize("page", SOLUTIONS, ids=name)
def test_a_chapter_has_five_exercises_of_several_kinds(page):
    found = exercises.read_solutions(page).exercises
    assert len(found) >= 5
    assert len({exercise.kind for exercise in found}) >= 3


@pytest.mark.parametrize("page", [p for p in CHAPTERS if p.stem[:2].isdigit()], ids=name)
def test_a_chapter_shows_its_exercises_and_at_least_three_figures(page):
    notebook = committed(page)
    text = "\n".join(cell.source for cell in notebook.cells)
    for exercise in exercises.read_solutions(ROOT / "solutions" / page.name).exercises:
        assert f":name: {exercise.label}" in text
    shown = [o for c in notebook.cells for o in c.get("outputs", []) if "data" in o]
    assert sum("image/svg+xml" in output.data for output in shown) >= 4  # the map and three more


@pytest.mark.parametrize("page", SOLUTIONS, ids=name)
def test_on_the_stubs_exactly_the_checks_fail(page):
    notebook = formats.read(ROOT / "exercises" / page.name)
    notebooks.execute(notebook, ROOT / "exercises", allow_errors=True)
    wrong = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            failed = any(output.output_type == "error" for output in cell.outputs)
            if failed != formats.has_tag(cell, "check"):
                wrong.append(f"cell {index} {'fails' if failed else 'passes'}: {cell.source}")
    assert wrong == []


@pytest.mark.parametrize("page", SOLUTIONS, ids=name)
def test_on_the_solutions_every_check_passes(page):
    """What is committed has no error; that it is what the code prints today is nbval's part."""
    checks = [c for c in committed(page).cells if formats.has_tag(c, "check")]
    assert checks
    for cell in checks:
        assert not [o for o in cell.outputs if o.output_type == "error"], cell.source


# One text, two places: what a chapter builds is what the package holds.


class _Bare(ast.NodeTransformer):
    """Removes what may differ: docstrings and annotations. (Comments are not in the tree.)"""

    def _body(self, node):
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_FunctionDef(self, node):
        node = self._body(self.generic_visit(node))
        node.returns = None
        return node

    def visit_ClassDef(self, node):
        return self._body(self.generic_visit(node))

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        if node.value is None:
            return None
        return ast.Assign(targets=[node.target], value=node.value)


def definitions(source):
    """The top-level classes, functions and constants of a text, bare, by name."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {
        key: ast.unparse(ast.fix_missing_locations(_Bare().visit(node)))
        for key, node in found.items()
    }


@functools.cache
def package():
    found = {}
    for path in sorted((ROOT / "course_pkg").glob("*.py")):
        if path.stem not in ("__init__", "cli"):
            found |= definitions(path.read_text(encoding="utf-8"))
    return found


def tagged(tag):
    return [
        pytest.param(cell.source, id=f"{page.stem}-{index}")
        for page in CHAPTERS
        for index, cell in enumerate(formats.read(page).cells)
        if formats.has_tag(cell, tag)
    ]


def test_the_comparison_sees_code_and_not_docstrings_annotations_or_comments():
    ours = 'def f(x: int = 1) -> int:\n    """Doc."""\n    y: int = x  # note\n    return y\n'
    assert definitions(ours) == definitions("def f(x=1):\n    y = x\n    return y\n")
    assert definitions(ours) != definitions("def f(x=2):\n    y = x\n    return y\n")
    assert definitions(ours) != definitions("def f(x=1):\n    return x\n")


@pytest.mark.parametrize("source", tagged("reference"))
def test_a_reference_cell_is_the_packages_code(source):
    shown = definitions(source)
    assert shown, "a reference cell must define something"
    for key, text in shown.items():
        assert key in package(), f"course_pkg has no {key}"
        assert text == package()[key]


@pytest.mark.parametrize("page", CHAPTERS, ids=name)
def test_a_chapter_says_so_when_its_definition_differs_from_the_packages(page):
    public = set(course_pkg.__all__)
    for cell in formats.read(page).cells:
        if cell.cell_type != "code":
            continue
        nodes = ast.parse(without_magics(cell.source)[0]).body
        names = {n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        if names & public:
            assert formats.has_tag(cell, "reference") or formats.has_tag(cell, "explicit"), (
                f"{names & public}: tag the cell 'reference' or 'explicit'"
            )
