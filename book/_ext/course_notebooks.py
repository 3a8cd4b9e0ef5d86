"""Open a page as a notebook: plain notebooks beside the pages, and the links at a page's top.

The links need one setting, ``repository.url`` in ``_config.yml``; without it a page offers the file
and the command that opens it in Jupyter.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from course_pkg.authoring import plain
from course_pkg.authoring.addresses import FOLDER, Address

STYLE = "notebooks.css"
_log = logging.getLogger(__name__)


class OpenNotebook(nodes.General, nodes.Element):
    """The line of links under a page's title; it has no children, so the search skips it."""


def visit_open(self: Any, node: OpenNotebook) -> None:
    links = "\n".join(
        f'<li><a href="{self.attval(address)}"{extra}>{self.encode(text)}</a></li>'
        for text, address, extra in node["links"]
    )
    self.body.append(
        '<nav class="open-notebook" aria-label="Open this notebook">\n'
        f"<span>Open this notebook:</span>\n<ul>\n{links}\n"
        "<li><details><summary>Jupyter</summary>\n"
        f"<p>In the course’s folder, after <code>make book</code>:</p>\n"
        f"<pre>.venv/bin/python -m pip install jupyterlab\n"
        f".venv/bin/jupyter lab {self.encode(node['path'])}</pre>\n"
        f'<p><a href="{self.attval(node["setup"])}">Setting up</a> says more, also for '
        "Windows.</p></details></li>\n</ul>\n</nav>\n"
    )
    raise nodes.SkipNode


def skip(self: Any, node: nodes.Element) -> None:
    raise nodes.SkipNode


def address_of(app: Sphinx) -> Address:
    """What ``_config.yml`` says about the repository and the site."""
    options = app.config.html_theme_options
    return Address(
        repository=options.get("repository_url") or "",
        branch=options.get("repository_branch") or "main",
        pages=app.config.course_pages_branch,
        site=app.config.html_baseurl or "",
    )


def links_of(address: Address, name: str, download: str) -> list[tuple[str, str, str]]:
    """Text, address and further attributes of each link, in the order in which they are shown."""
    notebook = f"{name}.ipynb"
    file = notebook.rpartition("/")[2]
    links = [
        ("Colab", address.colab(notebook), ""),
        ("Binder", address.binder(notebook), ""),
        ("Download (.ipynb)", download, f' download="{file}"'),
    ]
    return [link for link in links if link[1]]


def is_notebook(app: Sphinx, page: str) -> bool:
    folder = page.partition("/")[0]
    return folder in plain.FOLDERS and str(app.env.doc2path(page)).endswith(".ipynb")


def add_links(app: Sphinx, document: nodes.document, page: str) -> None:
    """Put the links under the title of a page that is a notebook."""
    if app.builder.format != "html" or not is_notebook(app, page):
        return
    title = document.next_node(nodes.title)
    if title is None:
        return
    up = "../" * page.count("/")
    download = f"{up}{FOLDER}/{page}.ipynb"
    setup_page = "book/setup" if "book/setup" in app.env.found_docs else page
    line = OpenNotebook(
        "",
        links=links_of(address_of(app), page, download),
        path=f"{page}.ipynb",
        setup=app.builder.get_relative_uri(page, setup_page),
    )
    title.parent.insert(title.parent.index(title) + 1, line)


def finish_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The theme's button for the page's source gives the plain notebook too."""
    if page not in app.env.found_docs or not is_notebook(app, page):
        return
    app.add_css_file(STYLE, priority=800)
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "download-source-button":
                button["url"] = context["pathto"](f"{FOLDER}/{page}.ipynb", 1)


def export(app: Sphinx, exception: Exception | None) -> None:
    """Write the plain notebooks, and see that their numbers and anchors are the book's."""
    if exception is not None or app.builder.format != "html":
        return
    if getattr(app.config, "course_pages", []):
        return  # a translated edition has the notebooks of the English book
    book = plain.read_book(Path(app.srcdir))
    for name in [name for name in book.pages if name not in app.env.found_docs]:
        del book.pages[name]
    try:
        plain.export(book, Path(app.outdir), address_of(app))
    except ValueError as error:
        _log.warning("the plain notebooks are not written: %s", error)
    for problem in disagreements(book, app.env):
        _log.warning("plain notebooks: %s", problem)


def disagreements(book: plain.Book, env: BuildEnvironment) -> list[str]:
    """Labels whose page, anchor or number in the plain notebooks is not that of the book."""
    labels = env.get_domain("std").anonlabels  # type: ignore[attr-defined]
    equations = env.get_domain("math").equations  # type: ignore[attr-defined]
    found = []
    for label, target in book.targets.items():
        if target.page not in env.found_docs:
            continue
        if target.anchor.startswith("equation-"):
            page, _ = equations.get(label, ("", 0))
            kind, anchor = "displaymath", target.anchor
        else:
            page, anchor = labels.get(label, ("", ""))
            kind = "figure"
        if (page, anchor) != (target.page, target.anchor):
            found.append(f"{label} is {page}#{anchor} and not {target.page}#{target.anchor}")
        elif target.number:
            number = env.toc_fignumbers.get(page, {}).get(kind, {}).get(anchor)
            if number and ".".join(map(str, number)) != target.number:
                found.append(f"{label} has the number {number} and not {target.number}")
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("course_pages_branch", "gh-pages", "html", (str,))
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), (skip, None))
    app.add_node(OpenNotebook, html=(visit_open, None), **others)
    app.connect("doctree-resolved", add_links, priority=950)
    app.connect("html-page-context", finish_page, priority=900)
    app.connect("build-finished", export)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
