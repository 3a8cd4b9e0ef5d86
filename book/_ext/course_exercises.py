"""What the book's pages add to an exercise: its facts, hints one at a time, and its solution.

Nothing here is written twice. Difficulty and hints are those of ``course_pkg.checks``, the solution
is cut out of the solutions' page, and all of it is put in when a page is made: the notebooks hold
none of it. A hint lies inside the one before it, so its order needs no script. What is folded is
no child in the document's tree, so the search finds no word of it; ``exercises.js`` keeps it out
of the excerpts too, which a browser cuts from whole pages.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from course_pkg.authoring import exercises
from course_pkg.checks import engine

STYLE, SCRIPT = "exercises.css", "exercises.js"
_KIND_AND_POINTS = re.compile(r"\s*[(（][^()（）]*[)）]$")
DIFFICULTIES = {1: "easy", 2: "medium", 3: "hard"}


class Aside(nodes.General, nodes.Element):
    """Holds ``content``, a list of nodes, where the search's index does not look."""


class Fold(nodes.General, nodes.Element):
    """A closed ``<details>``: its children under the line ``summary``."""


class Facts(nodes.General, nodes.Element):
    """The list of an exercise's facts."""


class Fact(nodes.General, nodes.TextElement):
    """One of them."""


class Marks(nodes.General, nodes.Element):
    """A difficulty in words, with dots that a screen reader passes over."""


def visit_aside(self: Any, node: Aside) -> None:
    self.body.append('<div class="exercise-aside">\n')
    for part in node["content"]:
        part.walkabout(self)
    self.body.append("</div>\n")
    raise nodes.SkipNode


def visit_fold(self: Any, node: Fold) -> None:
    classes = " ".join(["exercise-fold", *node["classes"]])
    summary = self.encode(node["summary"])
    self.body.append(f'<details class="{classes}"><summary>{summary}</summary>\n<div>\n')


def depart_fold(self: Any, node: Fold) -> None:
    self.body.append("</div>\n</details>\n")


def visit_facts(self: Any, node: Facts) -> None:
    self.body.append('<ul class="exercise-facts">\n')


def depart_facts(self: Any, node: Facts) -> None:
    self.body.append("</ul>\n")


def visit_fact(self: Any, node: Fact) -> None:
    self.body.append("<li>")


def depart_fact(self: Any, node: Fact) -> None:
    self.body.append("</li>\n")


def visit_marks(self: Any, node: Marks) -> None:
    level = node["level"]
    dots = "●" * level + "○" * (len(DIFFICULTIES) - level)
    self.body.append(
        f'<span class="visually-hidden">Difficulty: </span><span aria-hidden="true">{dots}</span> '
        f"{DIFFICULTIES[level]}"
    )
    raise nodes.SkipNode


def skip(self: Any, node: nodes.Element) -> None:
    raise nodes.SkipNode


def facts(exercise: exercises.Exercise, builds_on: list[nodes.Node]) -> Facts:
    """Difficulty, points, kind and what it builds on."""
    unit = "point" if exercise.points == 1 else "points"
    items: list[list[nodes.Node]] = [
        [Marks("", level=engine.find_exercise(exercise.id).difficulty)],
        [nodes.Text(f"{exercise.points} {unit}")],
        [nodes.Text(exercise.kind)],
    ]
    if builds_on:
        items.append([nodes.Text("builds on "), *builds_on])
    return Facts("", *(Fact("", "", *item) for item in items))


def hints(texts: tuple[str, ...]) -> Fold | None:
    """The hints, each inside the one before: the next is there when one has been opened."""
    fold: Fold | None = None
    for position, text in reversed(list(enumerate(texts, start=1))):
        outer = Fold("", classes=["exercise-hint"], summary=f"Hint {position} of {len(texts)}")
        outer += nodes.paragraph("", "", *_inline(text))
        if fold is not None:
            outer += fold
        fold = outer
    return fold


def _inline(text: str) -> list[nodes.Node]:
    """A hint is plain text in which code stands between backticks."""
    parts = text.split("`")
    made = [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts)]
    return [node for node in made if node.astext()]


def solution_of(document: nodes.document, number: str) -> tuple[str, list[nodes.Element]]:
    """The anchor of an exercise on the solutions' page, and copies of what solves and explains it.

    Raises:
        ExtensionError: the page has no such exercise.
    """
    section = _section(document, number)
    cells = [child for child in section.children if isinstance(child, nodes.Element)]
    starts = [i for i, cell in enumerate(cells) if "tag_exercise" in cell["classes"]]
    if not starts:
        raise ExtensionError(f"the solution of exercise {number} has no exercise cell")
    shown = [cell.deepcopy() for cell in cells[starts[0] :] if "tag_check" not in cell["classes"]]
    for part in shown:
        for node in part.findall(nodes.Element):
            node["ids"] = []  # a page may hold the solution only once under its name
    return section["ids"][0], shown


def _section(document: nodes.document, number: str) -> nodes.section:
    for section in document.findall(nodes.section):
        title = section.next_node(nodes.title)
        if title is not None and title.astext().startswith(f"Exercise {number} ·"):
            return section
    raise ExtensionError(f"{document.get('source', 'a page')} has no exercise {number}")


class Pages:
    """The exercises' sources, read once for a build."""

    def __init__(self, app: Sphinx) -> None:
        self.app = app
        found = sorted((Path(app.srcdir) / "solutions").glob("[0-9][0-9]_*.md"))
        self.of_stem = {path.stem: exercises.read_solutions(path) for path in found}
        self.place = {e.id: (p.stem, e) for p in self.of_stem.values() for e in p.exercises}
        self._solutions: dict[str, nodes.document] = {}

    def solutions(self, stem: str) -> nodes.document:
        """The solutions' page as it is shown."""
        if stem not in self._solutions:
            env = self.app.builder.env
            self._solutions[stem] = env.get_and_resolve_doctree(
                f"solutions/{stem}", self.app.builder
            )
        return self._solutions[stem]

    def builds_on(self, exercise: exercises.Exercise, page: str) -> list[nodes.Node]:
        """Links to the earlier exercises' boxes, with commas between."""
        links: list[nodes.Node] = []
        for other in engine.find_exercise(exercise.id).builds_on:
            if other not in self.place:
                continue
            stem, earlier = self.place[other]
            uri = self.app.builder.get_relative_uri(page, f"book/{stem}")
            link = nodes.reference("", earlier.number, refuri=f"{uri}#{earlier.label}")
            link["internal"] = True
            links += [nodes.Text(", "), link] if links else [link]
        return links

    def aside(self, exercise: exercises.Exercise, stem: str, page: str) -> Aside:
        """The hints, and after them the solution.

        A chapter has only the link to it: its page is long already.
        """
        anchor, shown = solution_of(self.solutions(stem), exercise.number)
        uri = self.app.builder.get_relative_uri(page, f"solutions/{stem}")
        link = nodes.reference("", "On the page with all solutions", refuri=f"{uri}#{anchor}")
        link["internal"] = True
        solution = Fold("", classes=["exercise-solution"], summary="Solution")
        if not page.startswith("book/"):
            solution += shown
        solution += nodes.paragraph("", "", link, classes=["exercise-more"])
        # The builder learns of a page's images from its children, and these are none.
        self.app.builder.post_process_images(solution)
        first = hints(engine.find_exercise(exercise.id).hints)
        return Aside("", content=[part for part in (first, solution) if part is not None])


def note_sources(app: Sphinx, page: str, source: list[str]) -> None:
    """A page is made again when its hints or its solutions change."""
    folder, _, stem = page.partition("/")
    if folder in ("book", "exercises") and (Path(app.srcdir) / "solutions" / f"{stem}.md").exists():
        checks = Path(engine.__file__).with_name(f"ch{stem[:2]}.py")
        for path in (checks, *(Path(app.srcdir) / "solutions").glob(f"{stem}.*")):
            app.env.note_dependency(str(path))


def shorten_titles(app: Sphinx, document: nodes.document) -> None:
    """On a page of exercises the line below a title says the kind and the points already."""
    if app.builder.format == "html" and app.env.docname.startswith("exercises/"):
        for title in document.findall(nodes.title):
            last = title.children[-1]
            if title.astext().startswith("Exercise ") and isinstance(last, nodes.Text):
                title[-1] = nodes.Text(_KIND_AND_POINTS.sub("", last))


def hide_markers(app: Sphinx, document: nodes.document) -> None:
    """Where a solution begins and ends is for the program that cuts it out, not for readers."""
    if app.builder.format == "html" and app.env.docname.startswith("solutions/"):
        for block in document.findall(nodes.literal_block):
            code = exercises.without_markers(block.astext())
            if len(code) < len(block.astext().rstrip()):
                block.rawsource, block.children = code, []
                block += nodes.Text(code)


def complete(app: Sphinx, document: nodes.document, page: str) -> None:
    """Put facts, hints and solution to each exercise of a chapter or of a page of exercises."""
    if app.builder.format != "html":
        return
    folder, _, stem = page.partition("/")
    if folder not in ("book", "exercises"):
        return
    if not hasattr(app, "course_exercises"):
        app.course_exercises = Pages(app)  # type: ignore[attr-defined]
    pages: Pages = app.course_exercises  # type: ignore[attr-defined]
    if stem not in pages.of_stem:
        return
    for exercise in pages.of_stem[stem].exercises:
        given = facts(exercise, pages.builds_on(exercise, page))
        aside = pages.aside(exercise, stem, page)
        if folder == "book":
            _complete_box(document, exercise, given, aside)
        else:
            section = _section(document, exercise.number)
            section.insert(1, given)
            section += aside


def _complete_box(
    document: nodes.document, exercise: exercises.Exercise, given: Facts, aside: Aside
) -> None:
    boxes = [n for n in document.findall(nodes.admonition) if exercise.label in n["ids"]]
    if not boxes:
        return  # a chapter without the line <!-- exercises -->
    (box,) = boxes
    links = box.children[-1]
    last = links.children[-1] if links.children else None
    if not isinstance(last, nodes.reference) or "solutions/" not in last.get("refuri", ""):
        raise ExtensionError(f"the box of exercise {exercise.number} does not end with its links")
    del links.children[1:]  # the solution comes after the hints
    title = box.children[0]
    # The facts say the kind and the points; a translated title is the box's own.
    shown = _KIND_AND_POINTS.sub("", title.astext())
    if shown.startswith("Exercise "):
        shown = f"Exercise {exercise.number} · {exercise.title}"
    title.children = [nodes.Text(shown)]
    box.insert(1, given)
    box += aside


def add_style_and_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Pages with exercises load their style; the page of the search what keeps excerpts clean."""
    if 'class="exercise-' in context.get("body", ""):
        app.add_css_file(STYLE, priority=800)
    if page == "search":
        # Deferred: the search itself is loaded after the scripts of a page.
        app.add_js_file(SCRIPT, loading_method="defer", priority=900)


def setup(app: Sphinx) -> dict[str, bool]:
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), (skip, None))
    app.add_node(Aside, html=(visit_aside, None), **others)
    app.add_node(Fold, html=(visit_fold, depart_fold), **others)
    app.add_node(Facts, html=(visit_facts, depart_facts), **others)
    app.add_node(Fact, html=(visit_fact, depart_fact), **others)
    app.add_node(Marks, html=(visit_marks, None), **others)
    app.connect("source-read", note_sources)
    app.connect("doctree-read", shorten_titles, priority=400)  # before contents are collected
    app.connect("doctree-read", hide_markers)
    # Links and images of the solutions are resolved by then.
    app.connect("doctree-resolved", complete, priority=900)
    app.connect("html-page-context", add_style_and_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
