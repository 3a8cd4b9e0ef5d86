"""What this book needs beyond Jupyter Book: paired sources, widgets, a clean console."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from course_pkg.authoring import figures, widgets

_LOG = logging.getLogger(__name__)

_QUALIFIED = re.compile(r"~?\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])")


_PAGES = ("book", "exercises", "solutions")


def leave_out_what_is_no_page(app: Sphinx, config: Config) -> None:
    """Pages are the .ipynb and the .md without one, in three folders: not in .venv, tests, ...

    Sphinx would read the Markdown of every installed package, and warn about a paired .md.
    """
    for entry in Path(app.srcdir).iterdir():
        if entry.is_dir() and entry.name not in _PAGES:
            config.exclude_patterns.append(f"{entry.name}/**")
    for notebook in Path(app.srcdir).glob("*/*.ipynb"):
        source = notebook.with_suffix(".md")
        if source.exists():
            config.exclude_patterns.append(source.relative_to(app.srcdir).as_posix())


def _is_whole_book(app: Sphinx) -> bool:
    """Whether the English book is written, whose files a translated edition uses."""
    return app.builder.format == "html" and not getattr(app.config, "course_pages", [])


def export_widget_data(app: Sphinx, exception: Exception | None) -> None:
    """Put the models and vocabularies of the widgets beside their scripts."""
    if exception is None and _is_whole_book(app):
        folder = Path(app.outdir) / "_static" / widgets.FOLDER / "data"
        widgets.export(folder, Path(app.srcdir) / "book" / "data" / "loss_grid.json")


def add_widget_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A page that holds a widget loads its scripts; the others load none."""
    scripts = widgets.scripts_of(context.get("body", ""))
    for name in scripts:  # added while a page is made, a file is loaded by that page only
        app.add_js_file(f"{widgets.FOLDER}/{name}", loading_method="defer", priority=800)
    if scripts:
        app.add_css_file(f"{widgets.FOLDER}/{widgets.STYLE}", priority=800)


class LinkTheMap(SphinxPostTransform):
    """The map's links, which name notebooks, lead to their pages; its label is the cell's ``alt``.

    It runs before MyST-NB keeps one output of those among which a page chooses.
    """

    default_priority = 3
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") != "html" or "course-map" not in raw.astext():
                continue
            images = raw.parent.parent.findall(nodes.image)
            alt = next((image["alt"] for image in images if "alt" in image), None)
            linked = figures.relink_map(raw.astext(), self.address, alt)
            if linked is not None:
                copy = raw.copy()
                copy += nodes.Text(linked)
                raw.replace_self(copy)

    def address(self, page: str, anchor: str) -> str:
        if page not in self.env.found_docs:
            _LOG.warning("the map links to %s, which is no page", page, location=self.env.docname)
            return "#"
        address = self.app.builder.get_relative_uri(self.env.docname, page)
        if not anchor:
            return address or "#"
        home, name, *_ = self.env.domaindata["std"]["anonlabels"].get(anchor, ("", ""))
        if home != page:
            _LOG.warning("the map links to %s in %s", anchor, page, location=self.env.docname)
        return f"{address}#{name}"


def drop_duplicate_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Two extensions add the same script of constants; the second is an error in the console."""
    seen, scripts = set(), []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in seen:
            scripts.append(script)
        seen.add(body)
    context["script_files"] = scripts


def shorten_types(app: Sphinx, what: str, name: str, obj: Any, options: Any, *texts: Any) -> Any:
    """Signatures name types without their modules: Tensor, not ~torch.Tensor."""
    return tuple(text and _QUALIFIED.sub("", text) for text in texts)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(LinkTheMap)
    app.connect("config-inited", leave_out_what_is_no_page)
    app.connect("build-finished", export_widget_data)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("html-page-context", add_widget_scripts)
    app.connect("html-page-context", drop_duplicate_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
