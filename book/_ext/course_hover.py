"""What a reader learns by pointing: symbols of formulas, names of the package, index, citations.

The symbols are those of the table in ``book/notation.md``. A page that means something else by a
letter says so in a comment, which holds from there to the end of its section::

    <!-- symbols:
    $V$ `values`: the values of all positions
    $w$: number of warm-up steps
    -->

A comment ``<!-- index: causal mask; mask, causal -->`` puts its section into the general index.
Both are comments because a notebook shows directives as raw text.
"""

import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

NOTATION = "book/notation"
API = "book/api"
DATA = "hover-data.js"

# Formulas

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]|\S", re.DOTALL)
_WITH_TEXT = {r"\text", r"\operatorname", r"\mathcal", r"\mathbb", r"\mathrm", r"\mathbf"}
_ACCENTS = {r"\hat", r"\tilde", r"\bar"}
_SKIP_GROUP = {r"\begin", r"\end"}
# What a reader of the book knows, and what only sets a formula.
_PLAIN = set(
    re.findall(
        r"\\[A-Za-z]+",
        r"""\frac \tfrac \dfrac \sqrt \sum \prod \underbrace \overbrace \left \right \big \Big \bigg
        \Bigg \quad \qquad \textstyle \displaystyle \cdot \times \cdots \dots \ldots \vdots \ddots
        \le \leq \ge \geq \ne \neq \approx \in \infty \pi \max \min \cos \sin \lVert \rVert
        \lvert \rvert""",
    )
)
_GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ϵ",
    "eta": "η",
    "theta": "θ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "sigma": "σ",
    "tau": "τ",
    "phi": "ϕ",
    "Phi": "Φ",
    "Sigma": "Σ",
    "Delta": "Δ",
}
_SIGNS = {
    **{f"\\{name}": f"<i>{letter}</i>" for name, letter in _GREEK.items()},
    r"\top": "⊤",
    r"\partial": "∂",
    r"\leftarrow": "←",
    r"\times": " × ",
    r"\cdot": " · ",
    r"\le": " ≤ ",
    r"\dots": "…",
    r"\infty": "∞",
    r"\mathcal{L}": "ℒ",
    r"\mathbb{R}": "ℝ",
    r"\lVert": "‖",
    r"\rVert": "‖",
}
_COMBINING = {r"\hat": "\u0302", r"\tilde": "\u0303", r"\bar": "\u0304"}


class Symbol(NamedTuple):
    """One meaning of a symbol: ``d_\\text{in}`` has the base ``d`` and the index ``\\text{in}``."""

    base: str
    index: str
    code: str
    meaning: str

    @property
    def tex(self) -> str:
        return f"{self.base}_{{{self.index}}}" if self.index else self.base

    @property
    def key(self) -> str:
        """Names this meaning in a page; the same in every build."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:6]

    @property
    def any_index(self) -> bool:
        """Whether it stands for its letter with any index: x_t is also x_i and x_{t-1}."""
        return bool(self.index) and not set(self.index) - set("ijtn,")

    def shown(self) -> list[str]:
        """How a page shows it: the symbol, the name in the code, the meaning, in HTML.

        A remark in brackets at the end is for the table, where both meanings stand.
        """
        meaning = re.sub(r"\s*\([^()]*\)$", "", self.meaning)
        return [as_html(self.tex), html.escape(self.code), inline_html(meaning)]

    def at(self, index: str) -> "Symbol":
        """The same symbol with other letters for an index: the vector at position j, for x_j."""
        if not index.isalpha() or len(index) != len(self.index):
            return self
        letters = dict(zip(self.index, index, strict=True))

        def swap(text: str) -> str:
            return re.sub(r"\b[a-z]\b", lambda found: letters.get(found[0], found[0]), text)

        meaning = re.sub(r"\$[^$]+\$", lambda found: swap(found[0]), self.meaning)
        code = re.sub(r"\[[^]]*\]", lambda found: swap(found[0]), self.code)
        return Symbol(self.base, index, code, meaning)


class Mark(NamedTuple):
    """Where a symbol stands in a formula; ``braces`` if it must stay one argument."""

    start: int
    end: int
    symbol: Symbol
    braces: bool


class Unknown(NamedTuple):
    start: int
    tex: str


def _group_end(tex: str, start: int) -> int:
    """The place behind the group that opens at ``start``."""
    depth = 0
    for place in range(start, len(tex)):
        if tex[place] in "{}" and (place == 0 or tex[place - 1] != "\\"):
            depth += 1 if tex[place] == "{" else -1
            if depth == 0:
                return place + 1
    raise ValueError(f"the formula {tex!r} has an open brace")


class _Next(NamedTuple):
    token: str
    start: int
    end: int


def _next(tex: str, place: int) -> _Next | None:
    found = _TOKEN.search(tex, place)
    return _Next(found[0], found.start(), found.end()) if found else None


def _argument(tex: str, place: int) -> tuple[int, int]:
    """Where the argument that follows ``place`` starts and ends, with its braces."""
    token = _next(tex, place)
    if token is None:
        raise ValueError(f"the formula {tex!r} ends where an argument should follow")
    if token.token == "{":
        return token.start, _group_end(tex, token.start)
    if token.token in _WITH_TEXT | _ACCENTS:
        return token.start, _argument(tex, token.end)[1]
    return token.start, token.end


def canonical(tex: str) -> str:
    """A formula without what makes no difference: outer braces and spaces."""
    tex = re.sub(r"\s+", "", tex)
    while tex.startswith("{") and _group_end(tex, 0) == len(tex):
        tex = tex[1:-1]
    return tex


def _base(tex: str, token: _Next) -> tuple[str, int]:
    """A symbol without its indices, in one spelling, and where it ends."""
    if token.token in _WITH_TEXT | _ACCENTS:
        start, end = _argument(tex, token.end)
        return f"{token.token}{{{canonical(tex[start:end])}}}", end
    return token.token, token.end


class Scopes:
    """Which meaning a symbol has where: those of the enclosing sections before the table's."""

    def __init__(self, table: Iterable[Symbol]) -> None:
        self._open: list[tuple[int, list[Symbol]]] = [(0, list(table))]

    def heading(self, level: int) -> None:
        while self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, []))

    def define(self, symbols: Iterable[Symbol]) -> None:
        self._open[-1][1][:0] = symbols  # a later comment of a section wins

    def find(self, base: str, index: str) -> Symbol | None:
        """The symbol with this index, with any, or the letter alone that an index stands beside."""
        mine = [
            [symbol for symbol in symbols if symbol.base == base]
            for _, symbols in reversed(self._open)
        ]
        for symbol in (symbol for symbols in mine for symbol in symbols):
            if symbol.index == index:
                return symbol
        if "\\" in index:  # a word, as in d_in, is part of the name
            return None
        for symbols in mine:
            for symbol in symbols:
                if index and symbol.any_index:
                    return symbol.at(index)
            for symbol in symbols:
                if not symbol.index:
                    return symbol
        return None


def read_formula(tex: str, scopes: Scopes) -> tuple[list[Mark], list[Unknown]]:
    """The symbols of a formula that have a meaning, and those that have none."""
    marks: list[Mark] = []
    unknown: list[Unknown] = []

    def walk(place: int, end: int, braces: bool) -> None:
        needs_argument = False
        while (token := _next(tex, place)) is not None and token.start < end:
            name, _, place = token
            bare = braces or needs_argument
            needs_argument = False
            if name in ("_", "^"):
                first, place = _argument(tex, place)
                walk(first, place, tex[first] != "{")
            elif name in _SKIP_GROUP:
                place = _argument(tex, place)[1]
            elif name in _PLAIN:
                needs_argument = name in (r"\frac", r"\tfrac", r"\dfrac", r"\sqrt")
            elif re.fullmatch(r"\\[A-Za-z]+|[A-Za-z]", name):
                place = symbol(token, bare)

    def symbol(token: _Next, braces: bool) -> int:
        base, place = _base(tex, token)
        letter_end = end = place
        index, scripts = "", []
        while (script := _next(tex, place)) is not None and script.token in ("_", "^"):
            first, end = _argument(tex, script.end)
            if script.token == "_":
                index = canonical(tex[first:end])
            scripts.append((script.token, first, end))
            place = end
        found = scopes.find(base, index)
        if found is None:
            following = _next(tex, place)
            is_word = token.token == r"\text" and not scripts
            if not is_word or (following and following.token in ("(", r"\big")):
                unknown.append(Unknown(token.start, f"{base}_{{{index}}}" if index else base))
        elif found.index:
            marks.append(Mark(token.start, end, found, braces))
        else:
            marks.append(Mark(token.start, letter_end, found, braces))
        for kind, first, last in scripts:
            if found is None or not found.index or kind == "^":
                walk(first, last, tex[first] != "{")
        return place

    walk(0, len(tex), False)
    return marks, unknown


def with_classes(tex: str, marks: Iterable[Mark]) -> str:
    """The formula in which each known symbol carries a class that names its meaning."""
    inserts: list[tuple[int, int, str]] = []
    for order, mark in enumerate(sorted(marks, key=lambda mark: (mark.start, -mark.end))):
        one, two = ("{", "}") if mark.braces else ("", "")
        inserts.append((mark.start, order, rf"{one}\class{{sym-{mark.symbol.key}}}{{"))
        inserts.append((mark.end, -order, "}" + two))
    for place, _, text in sorted(inserts, reverse=True):
        tex = tex[:place] + text + tex[place:]
    return tex


def as_html(tex: str) -> str:
    """A short formula in HTML, for a place where no MathML is made."""
    out, place = [], 0
    while (token := _next(tex, place)) is not None:
        if out and token.start > place and token.token not in "_^":
            out.append(" ")
        name, place = token.token, token.end
        if name in ("_", "^"):
            start, place = _argument(tex, place)
            tag = "sub" if name == "_" else "sup"
            out.append(f"<{tag}>{as_html(canonical(tex[start:place]))}</{tag}>")
        elif name in _ACCENTS:
            start, place = _argument(tex, place)
            below = as_html(canonical(tex[start:place]))
            out.append(below.replace("</i>", f"{_COMBINING[name]}</i>"))
        elif name in _WITH_TEXT:
            start, place = _argument(tex, place)
            inside = canonical(tex[start:place])
            out.append(_SIGNS.get(f"{name}{{{inside}}}", html.escape(inside)))
        elif name in _SIGNS:
            out.append(_SIGNS[name])
        elif name in "{}":
            continue
        elif name.isalpha():
            out.append(f"<i>{name}</i>")
        else:
            out.append(html.escape(name.lstrip("\\")))
    return re.sub(" +", " ", "".join(out)).strip()


def inline_html(text: str) -> str:
    """A cell's Markdown (code, formulas, emphasis, links) as HTML without links."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    out = []
    for part in re.split(r"(`[^`]*`|\$[^$]*\$)", text):
        if part.startswith("`"):
            out.append(f"<code>{html.escape(part.strip('`'))}</code>")
        elif part.startswith("$"):
            out.append(as_html(part.strip("$")))
        else:
            out.append(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(part, quote=False)))
    return "".join(out)


# Where the meanings are written


def _symbol(tex: str, code: str, meaning: str) -> Symbol:
    token = _next(tex, 0)
    if token is None:
        raise ValueError("a symbol is empty")
    base, place = _base(tex, token)
    rest = canonical(tex[place:])
    if rest and not rest.startswith("_"):
        raise ValueError(f"the symbol {tex!r} must be a letter, a command or one of these with _")
    return Symbol(base, canonical(rest[1:]) if rest else "", code, meaning.strip())


def _split(tex: str) -> list[str]:
    """The symbols of ``W_q, W_k``: commas inside braces belong to an index."""
    return [part.strip() for part in re.split(r",(?![^{]*\})", tex)]


def read_table(text: str) -> list[Symbol]:
    """The symbols of the tables in ``book/notation.md``, up to its glossary."""
    found = []
    for line in text.partition("(glossary)=")[0].splitlines():
        cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        if not line.startswith("|") or len(cells) != 3 or "$" not in cells[0]:
            continue
        symbols = [part for tex in re.findall(r"\$([^$]+)\$", cells[0]) for part in _split(tex)]
        codes = re.findall(r"`([^`]+)`", cells[1])
        if len(symbols) > 1 and len(codes) not in (0, len(symbols)):
            raise ValueError(f"{len(symbols)} symbols have {len(codes)} names in code: {line}")
        for index, tex in enumerate(symbols):
            mine = codes[index : index + 1] if len(symbols) > 1 else codes
            found.append(_symbol(tex, ", ".join(mine), cells[2]))
    seen = set()
    for symbol in found:
        if symbol[:2] in seen:
            raise ValueError(f"{symbol.tex} stands in the table of symbols twice")
        seen.add(symbol[:2])
    return found


_COMMENT = re.compile(r"<!--\s*(symbols|index):(.*?)-->", re.DOTALL)
_OVERRIDE = re.compile(r"((?:\$[^$]+\$(?:,\s*)?)+)\s*(?:`([^`]+)`)?\s*:\s*(\S.*)")


def read_symbols(text: str) -> list[Symbol]:
    """The symbols of a page's comment: ``$V$ `values`: what it means``, one a line."""
    found = []
    for line in text.strip().splitlines():
        match = _OVERRIDE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"{line.strip()!r} is not of the form $symbol$ `code`: meaning")
        for tex in re.findall(r"\$([^$]+)\$", match[1]):
            found += [_symbol(part, match[2] or "", match[3]) for part in _split(tex)]
    return found


def read_index(text: str) -> list[str]:
    """The entries of a comment: ``causal mask; mask, causal``. A comma makes a sub-entry."""
    return [re.sub(r"\s+", " ", part.strip()) for part in text.split(";") if part.strip()]


# A page's Markdown, for the tests: they name the line.


@dataclass(frozen=True)
class Piece:
    """A heading (``text`` is its number signs), comment, formula or code of a page."""

    kind: str
    line: int
    text: str


_PIECES = re.compile(
    r"(?P<fence>^(?P<mark>`{3,}|~{3,})[^\n]*\n.*?^(?P=mark)[ \t]*$)"
    r"|(?P<comment><!--.*?-->)"
    r"|(?P<heading>^\#{1,6}(?=[ ]))"
    r"|(?P<code>(?P<tick>`+)(?!`).*?(?<!`)(?P=tick)(?!`))"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?=\S)(?P<formula>[^$]*?[^$\s\\])\$(?![\d$])",
    re.DOTALL | re.MULTILINE,
)


def pieces(text: str) -> Iterator[Piece]:
    """What of a Markdown page matters here, in order."""
    for found in _PIECES.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        kind = next(
            k for k in ("fence", "comment", "heading", "code", "block", "formula") if found[k]
        )
        if kind == "fence" and re.match(r"(`{3,}|~{3,})\{math\}", found[0]):
            kind = "block"
        body = found[kind] or found[0]
        if kind == "code":
            body = body.strip("`").strip()
        yield Piece("formula" if kind == "block" else kind, line, body)


def unknown_symbols(text: str, table: Iterable[Symbol]) -> list[tuple[int, str]]:
    """Line and symbol of whatever in a page's formulas has no meaning."""
    scopes, found = Scopes(table), []
    for piece in pieces(text):
        if piece.kind == "heading":
            scopes.heading(len(piece.text))
        elif piece.kind == "comment":
            match = _COMMENT.fullmatch(piece.text)
            if match and match[1] == "symbols":
                scopes.define(read_symbols(match[2]))
        elif piece.kind == "formula":
            for unknown in read_formula(piece.text, scopes)[1]:
                line = piece.line + piece.text.count("\n", 0, unknown.start)
                found.append((line, unknown.tex))
    return found


# Sphinx: symbols and index


def _notation_file(env: BuildEnvironment) -> Path:
    return Path(env.srcdir) / f"{NOTATION}.md"


def _kept(env: BuildEnvironment) -> dict[str, dict[str, list[str]]]:
    """For each page the meanings that its formulas use, by key."""
    if not hasattr(env, "course_symbols"):
        env.course_symbols = {}  # type: ignore[attr-defined]
    return env.course_symbols  # type: ignore[attr-defined]


class ReadComments(SphinxTransform):
    """Turns the comments of a page into index entries and into marks on its formulas."""

    default_priority = 700  # before the domains collect the index

    def apply(self, **kwargs: Any) -> None:
        path = _notation_file(self.env)
        table = read_table(path.read_text(encoding="utf-8")) if path.exists() else []
        if path.exists():
            self.env.note_dependency(str(path))
        scopes, used = Scopes(table), {}
        for node in list(self.document.findall()):
            if isinstance(node, nodes.section):
                depth = sum(isinstance(up, nodes.section) for up in _ancestors(node)) + 1
                scopes.heading(depth)
            elif isinstance(node, nodes.raw | nodes.comment):
                self.comment(node, scopes)
            elif isinstance(node, nodes.math | nodes.math_block) and self.env.docname != NOTATION:
                marks, _ = read_formula(node.astext(), scopes)
                if marks:
                    node["hover"] = with_classes(node.astext(), marks)
                    used |= {mark.symbol.key: mark.symbol.shown() for mark in marks}
        _kept(self.env)[self.env.docname] = used

    def comment(self, node: nodes.Element, scopes: Scopes) -> None:
        match = _COMMENT.fullmatch(node.astext().strip())
        if match is None:
            return
        if match[1] == "symbols":
            scopes.define(read_symbols(match[2]))
            node.parent.remove(node)
            return
        target = nodes.target("", "", ids=[f"index-{self.env.new_serialno('index')}"])
        self.document.note_explicit_target(target)
        entries = [
            ("single", re.sub(r", ", "; ", entry, count=1), target["ids"][0], "", None)
            for entry in read_index(match[2])
        ]
        index = addnodes.index(entries=entries, inline=False)
        node.replace_self([index, target])


def _ancestors(node: nodes.Node) -> Iterator[nodes.Element]:
    up = node.parent
    while up is not None:
        yield up
        up = up.parent


def purge(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    _kept(env).pop(page, None)


def merge(app: Sphinx, env: BuildEnvironment, pages: Iterable[str], other: Any) -> None:
    _kept(env).update({page: _kept(other)[page] for page in pages if page in _kept(other)})


def set_classes(app: Sphinx) -> None:
    """Write formulas with their classes; the document, which is searched, keeps them plain."""

    def wrapped(visit: Any) -> Any:
        def visit_with_classes(translator: Any, node: Any) -> None:
            if "hover" in node:
                marked = node.copy()
                marked.rawsource = marked["hover"]
                marked += nodes.Text(marked["hover"])
                marked.parent = node.parent
                del marked["hover"]
                node = marked
            visit(translator, node)

        return visit_with_classes

    for kind in ("html_inline_math_renderers", "html_block_math_renderers"):
        renderers = getattr(app.registry, kind)
        if "mathml" in renderers:
            visit, depart = renderers["mathml"]
            renderers["mathml"] = (wrapped(visit), depart)


# Sphinx: names of the package


# Other things have these names too, so that only a whole path of them is a name of the package.
_COMMON = {"cross_entropy", "train"}  # PyTorch's function; a method of all its modules


class Name(NamedTuple):
    """A name on the API page: ``GPT.forward`` of the module ``course_pkg.gpt``."""

    module: str
    short: str
    kind: str

    @property
    def anchor(self) -> str:
        return f"{self.module}.{self.short}"


def names(env: BuildEnvironment) -> dict[str, Name]:
    """Names of the package as readers write them (GPT, GPT.forward) that the API page documents."""
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]
    modules = {full for full, entry in objects.items() if entry.objtype == "module"}
    found: dict[str, Name | None] = {}
    for full, entry in objects.items():
        if entry.docname != API or entry.aliased or entry.objtype in ("module", "attribute"):
            continue
        module = max((m for m in modules if full.startswith(f"{m}.")), key=len, default="")
        short = full.removeprefix(f"{module}.")
        found[short] = None if short in found else Name(module, short, entry.objtype)
    return {short: name for short, name in found.items() if name is not None}


def spellings(known: dict[str, Name]) -> dict[str, Name]:
    """What inline code may say for a name: also its whole path, and a telling method alone."""
    found: dict[str, Name | None] = {}
    for short, name in known.items():
        member = short.rpartition(".")[2]
        if short not in _COMMON:
            found[short] = name
        found[name.anchor] = found[f"course_pkg.{short}"] = name
        if member != short and "_" in member and name.kind in ("method", "property"):
            found[member] = None if member in found else name
    return {text: name for text, name in found.items() if name is not None}


class LinkNames(SphinxPostTransform):
    """Makes inline code that is exactly a name of the package a link to the API page."""

    default_priority = 200
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        known = spellings(names(self.env))
        uri = self.app.builder.get_relative_uri(self.env.docname, API) if known else ""
        for node in list(self.document.findall(nodes.literal)):
            short = node.astext().removesuffix("()")
            inside = (nodes.reference, nodes.title, addnodes.desc_signature, addnodes.pending_xref)
            if short not in known or any(isinstance(up, inside) for up in _ancestors(node)):
                continue
            link = nodes.reference(
                "",
                "",
                internal=True,
                refuri=f"{uri}#{known[short].anchor}",
                classes=["course-name"],
            )
            node.replace_self(link)
            link += node


def _shortened(text: str, longest: int) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    if len(text) <= longest:
        return text
    return text[: text.rfind(" ", 0, longest)].rstrip(",") + " …"


def describe(doctree: nodes.document) -> dict[str, list[str]]:
    """Kind, signature and first docstring line of everything on the API page, by anchor."""
    found = {}
    for entry in doctree.findall(addnodes.desc):
        content = entry.next_node(addnodes.desc_content, descend=True)
        first = content.next_node(nodes.paragraph) if content is not None else None
        # A class's first paragraph may belong to one of its methods.
        own = first is not None and next(_enclosing(first)) is entry
        line = _shortened(first.astext(), 120) if own and first is not None else ""
        for signature in entry.findall(addnodes.desc_signature):
            if signature.parent is not entry or not signature["ids"]:
                continue
            before, after, named = "", "", False
            for part in signature.children:
                if isinstance(part, addnodes.desc_name):
                    named = True
                elif isinstance(part, addnodes.desc_annotation):
                    before, after = (
                        (before, after + part.astext())
                        if named
                        else (before + part.astext(), after)
                    )
                elif isinstance(part, addnodes.desc_parameterlist):
                    inside = (p.astext() for p in part.findall(addnodes.desc_parameter))
                    after += f"({', '.join(inside)})"
                elif isinstance(part, addnodes.desc_returns):
                    after += f" -> {part.astext().removeprefix(' -> ')}"
            found[signature["ids"][0]] = [before.strip(), _shortened(after, 150), line]
    return found


def _enclosing(node: nodes.Node) -> Iterator[addnodes.desc]:
    return (up for up in _ancestors(node) if isinstance(up, addnodes.desc))


def script(env: BuildEnvironment) -> str:
    """What the pages' script knows: symbols by key, names by how they are written."""
    symbols: dict[str, list[str]] = {}
    for page in sorted(_kept(env)):
        symbols |= _kept(env)[page]
    found: dict[str, dict[str, list[str]]] = {}
    if API in env.found_docs:
        described = describe(env.get_doctree(API))
        for short, name in sorted(names(env).items()):
            if name.anchor in described:
                found.setdefault(name.module, {})[short] = described[name.anchor]
    data = {
        "api": f"{API}.html",
        "common": sorted(_COMMON),
        "symbols": dict(sorted(symbols.items())),
        "names": found,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"window.courseHover={text};\n"


def share(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write what all pages share; when a name came or went, every page is written again."""
    if app.builder.format != "html":
        return []
    path = Path(app.outdir) / "_static" / DATA
    path.parent.mkdir(parents=True, exist_ok=True)
    text = script(env)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8", newline="\n")
    linked = {short: name.anchor for short, name in names(env).items()}
    before = getattr(env, "course_names", None)
    env.course_names = linked  # type: ignore[attr-defined]
    return sorted(env.found_docs) if before != linked else []


# Sphinx: where a work is cited


def link_back(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Say below each entry of the bibliography in which sections it is cited."""
    entries = {node["ids"][0]: node for node in doctree.findall(nodes.citation) if node["ids"]}
    if not entries or "cite" not in app.env.domains:
        return
    domain: Any = app.env.get_domain("cite")
    order = {name: place for place, name in enumerate(_reading_order(app.env))}
    for citation in domain.citations:
        if citation.citation_id not in entries:
            continue
        references = [
            reference
            for reference in domain.citation_refs
            if citation.key in [target.key for target in reference.targets]
        ]
        # Exercises and solutions say again what a chapter says.
        chapters = [ref for ref in references if ref.docname.startswith("book/")] or references
        links: dict[str, nodes.reference] = {}
        for reference in sorted(chapters, key=lambda ref: order.get(ref.docname, len(order))):
            uri = app.builder.get_relative_uri(page, reference.docname)
            text = _section(app.env, reference.docname, reference.citation_ref_id)
            link = nodes.reference(
                "", text, internal=True, refuri=f"{uri}#{reference.citation_ref_id}"
            )
            links.setdefault(text, link)
        if links:
            paragraph = nodes.paragraph(classes=["cited-in"])
            paragraph += nodes.Text("Cited in ")
            for place, link in enumerate(links.values()):
                paragraph += [nodes.Text(", ")] * bool(place) + [link]
            entries[citation.citation_id] += paragraph


def _reading_order(env: BuildEnvironment) -> Iterator[str]:
    def below(page: str) -> Iterator[str]:
        yield page
        for child in env.toctree_includes.get(page, []):
            yield from below(child)

    return below(env.config.root_doc)


def _section(env: BuildEnvironment, page: str, anchor: str) -> str:
    """The number of the section in which an anchor stands, or its page's title."""
    numbers = env.toc_secnumbers.get(page, {})
    title = env.titles[page].astext()
    for node in env.get_doctree(page).findall(lambda n: anchor in _ids(n)):
        for up in _ancestors(node):
            for name in up.get("ids", []) if isinstance(up, nodes.section) else []:
                number = numbers.get(f"#{name}") or (numbers.get("") if up.parent is None else None)
                if number:
                    return ".".join(map(str, number))
    number = numbers.get("")
    return f"chapter {number[0]}" if number else title


def _ids(node: nodes.Node) -> list[str]:
    return node.get("ids", []) if isinstance(node, nodes.Element) else []


# Sphinx: search


def search_from_a_disk(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A page from a disk may not read others, so results there have no extracts."""
    if page == "search":
        app.add_js_file(
            None,
            body='if (location.protocol === "file:")'
            " DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;",
            priority=900,
        )


def drop_marks_of_other_names(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """In code only the names of the package are looked up: what marks the others is left out.

    The mark colours nothing, and there are thousands of them in a chapter.
    """
    linked = getattr(app.env, "course_names", None) or {}
    known = {word for name in linked.items() for path in name for word in path.split(".")}

    def kept(mark: re.Match[str]) -> str:
        return mark[0] if mark[1] in known else mark[1]

    if "body" in context:
        context["body"] = re.sub(r'<span class="n">(\w+)</span>', kept, context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(ReadComments)
    app.add_post_transform(LinkNames)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("builder-inited", set_classes)
    app.connect("env-updated", share)
    app.connect("doctree-resolved", link_back)
    app.connect("html-page-context", search_from_a_disk)
    app.connect("html-page-context", drop_marks_of_other_names)
    app.add_js_file(DATA, loading_method="defer", priority=810)
    app.add_js_file("hover.js", loading_method="defer", priority=820)
    app.add_css_file("hover.css")
    return {
        "version": "1",
        "env_version": 1,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
