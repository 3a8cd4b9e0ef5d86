"""Lighter pages that are whole for a screen reader: the last step before a page is written.

The theme brings 2.5 MB of scripts, styles and icons to every page, of which a page uses a tenth.
What no page names is left out of the styles and of the icons' font; what a page does not use, the
page does not load. A few mistakes in the theme's markup are put right on the way.
"""

import re
from collections import Counter
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.jinja2glue import BuiltinTemplateLoader

# Scripts and styles -> what a page's body must hold to need them; with None no page does.
ASSETS = {
    "sphinx-design": r'class="[^"]*\bsd-',
    "design-tabs": r'class="[^"]*\bsd-tab',
    "togglebutton": r'class="[^"]*\b(?:toggle|dropdown)\b',
    "copybutton": r'class="[^"]*\bhighlight\b',
    "clipboard": r'class="[^"]*\bhighlight\b',
    "thebe": None,
}
# Styles of which only the rules that some page can use are kept.
PURGED = ("styles/pydata-sphinx-theme.css", "sphinx-design.min.css", "mystnb.*.css")
ICONS = Path("vendor/fontawesome/webfonts")
# Class names that scripts put together from parts.
MADE_UP = re.compile(r"bs-(?:tooltip|popover)-|DocSearch")

_REPLACED = [
    # Every icon there is, drawn by a script of 1.5 MB; the styles draw the same from a font.
    (r"\s*<!-- So that users can add custom icons -->", ""),
    (r'\s*<script src="[^"]*scripts/fontawesome\.js[^"]*"></script>', ""),
    # Said three times.
    (r'(<meta name="viewport" content="width=device-width, initial-scale=1\.0" />)'
     r'<meta name="viewport"[^>]*>', r"\1"),
    (r'\s*<meta name="viewport" content="width=device-width, initial-scale=1"/>', ""),
    # The page's name stands beside the contents, in no region that a screen reader could list.
    (r'(<div id="pst-primary-sidebar") (class=)',
     r'\1 role="region" aria-label="Contents" \2'),
    # The role is deprecated, and the brackets' link is no item of a list.
    (r' role="doc-biblioentry"', ' role="listitem"'),
    # Of a picture that is there in light and in dark, the one that is not shown is not loaded.
    (r'<img (?=[^>]*\bonly-(?:light|dark)\b)(?![^>]*\b(?:loading=|logo__))',
     '<img loading="lazy" '),
    # Brackets, commas and spaces in code have the colour of the text around them.
    (r'<span class="[pw]">([^<]*)</span>', r"\1"),
    (r"<pre><span></span>", "<pre>"),
    # An empty corner of a table is no heading.
    (r'<th class="(head[^"]*)"><p></p></th>', r'<td class="\1"></td>'),
]  # fmt: skip


class Templates(BuiltinTemplateLoader):
    """Sphinx's templates, and what is to be put right in what they give."""

    def render(self, template: str, context: dict[str, Any]) -> str:
        text = super().render(template, context)
        return finished(text) if template.endswith(".html") else text


def finished(page: str) -> str:
    """A page as it is written: without what it does not use, with what a screen reader needs."""
    for pattern, replacement in _REPLACED:
        page = re.sub(pattern, replacement, page)
    # Templates leave lines with spaces only; in code they may mean something.
    parts = re.split(r"(<(pre|script|textarea)\b.*?</\2>)", page, flags=re.DOTALL)
    return "".join(
        part if number % 3 else re.sub(r"\n\s*\n\s*", "\n", part)
        for number, part in enumerate(parts)
        if number % 3 != 2
    )


def leave_out_what_is_not_used(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A page loads the scripts and styles that something in its body needs."""
    body = context.get("body", "")

    def needed(file: Any) -> bool:
        named = f"{getattr(file, 'filename', '')} {getattr(file, 'attributes', {}).get('body')}"
        for name, mark in ASSETS.items():
            if name in named.lower() or name.replace("-", "") in named.lower():
                return mark is not None and re.search(mark, body) is not None
        return True

    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, []) if needed(file)]


def words(text: str) -> set[str]:
    """Whatever could be the name of a class."""
    return set(re.findall(r"[\w-]+", text))


def purged(style: str, used: set[str]) -> str:
    """A style sheet without the rules that need a class which nothing uses.

    Comments go too. Rules inside ``@media`` and ``@supports`` are treated alike.
    """
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    out, at = [], 0
    while (brace := style.find("{", at)) >= 0:
        head = style[at:brace]
        # Statements such as @charset or @import end with a semicolon and stay.
        statements, _, head = head.rpartition(";")
        depth, end = 1, brace + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(style[end], 0)
            end += 1
        body = style[brace + 1 : end - 1]
        if statements:
            out.append(statements + ";")
        name = head.strip()
        if name.startswith(("@media", "@supports", "@layer", "@container")):
            if inner := purged(body, used):
                out.append(f"{name}{{{inner}}}")
        elif name.startswith("@"):
            out.append(f"{name}{{{body}}}")
        elif kept := [one for one in _selectors(name) if _can_match(one, used)]:
            out.append(f"{','.join(kept)}{{{body}}}")
        at = end
    return "".join(out) + style[at:].strip()


def _selectors(text: str) -> list[str]:
    """The selectors of a rule; commas in brackets and parentheses divide nothing."""
    found, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append(text[start:index].strip())
            start = index + 1
    return [*found, text[start:].strip()]


def _can_match(selector: str, used: set[str]) -> bool:
    # What stands in :not(...) must not be there, and of :is(...) one is enough: neither is asked.
    plain = re.sub(r"\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]", "", selector)
    classes = re.findall(r"\.((?:\\.|[\w-])+)", plain)
    return all(name.replace("\\", "") in used or MADE_UP.search(name) for name in classes)


def lighten(static: Path, used: set[str]) -> None:
    """Leave out of the static files what no page uses; ``used`` are the words of all pages."""
    for path in (p for pattern in PURGED for p in static.glob(pattern)):
        style = purged(path.read_text(encoding="utf-8"), used)
        if path.name == "pydata-sphinx-theme.css":
            style = _with_woff(style)
        path.write_text(style, encoding="utf-8")
    styles = "".join(path.read_text(encoding="utf-8") for path in static.rglob("*.css"))
    # Icons are in the private area of Unicode, written as such or as \f303.
    icons = {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", styles)}
    icons |= {ord(letter) for letter in styles if "\ue000" <= letter <= "\uf8ff"}
    for path in (static / ICONS).glob("*.ttf"):
        path.with_suffix(".woff").write_bytes(subset_font(path, icons))
    for path in [*static.rglob("*.map"), *(static / ICONS).glob("*.woff2"),
                 *(static / ICONS).glob("*.ttf"), *static.glob("sphinx-thebe.*"),
                 static / "scripts" / "fontawesome.js"]:  # fmt: skip
        path.unlink(missing_ok=True)


def compact_svg(text: str) -> str:
    """An SVG figure without the spaces and line ends that say nothing; it looks the same."""
    text = re.sub(r">\s*\n\s*<", "><", text)
    text = re.sub(r' d="([^"]*)"', lambda m: f' d="{_compact_path(m[1])}"', text)
    text = re.sub(r' style="([^"]*)"', lambda m: f' style="{_compact_style(m[1])}"', text)
    # The squares of a heatmap say the same hundreds of times.
    told = Counter(re.findall(r'<(?![^>]*\bclass=)[^>]* style="([^"]*)"', text))
    names = {style: f"s{i}" for i, (style, count) in enumerate(told.most_common()) if count > 4}
    if not names or 'class="s0"' in text:
        return text
    text = re.sub(
        r'<(?![^>]*\bclass=)([^>]*) style="([^"]*)"',
        lambda m: f'<{m[1]} class="{names[m[2]]}"' if m[2] in names else m[0],
        text,
    )
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return re.sub(r"(<svg\b[^>]*>)", rf"\1<style>{rules}</style>", text, count=1)


def _compact_path(path: str) -> str:
    """Level and upright lines say one number instead of two."""
    short, at = [], (None, None)
    for letter, said in re.findall(r"([A-DF-Za-df-z])([^A-DF-Za-df-z]*)", path):  # e: 1e-05
        numbers = said.split()
        to = tuple(numbers[-2:]) if letter in "MLCQ" and len(numbers) >= 2 else (None, None)
        if letter == "L" and len(numbers) == 2 and to[1] == at[1]:
            letter, numbers = "H", numbers[:1]
        elif letter == "L" and len(numbers) == 2 and to[0] == at[0]:
            letter, numbers = "V", numbers[1:]
        short.append(letter + " ".join(numbers))
        at = to
    return "".join(short)


def _compact_style(style: str) -> str:
    return re.sub(r"\s*([:;])\s*", r"\1", style.strip())


def _with_woff(style: str) -> str:
    """The fonts of the icons are written as woff, for which Python needs no further package."""
    return re.sub(
        r"src:url\(([^()]*)\.woff2\) format\([^()]*\),url\([^()]*\.ttf\) format\([^()]*\)",
        r'src:url(\1.woff) format("woff")',
        style,
    )


def subset_font(path: Path, characters: set[int]) -> bytes:
    """A font with these characters only, as woff: the same bytes for the same font."""
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    font = TTFont(path, recalcTimestamp=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    font.flavor = "woff"
    written = BytesIO()
    font.save(written)
    return written.getvalue()


def lighten_static_files(app: Sphinx, exception: Exception | None) -> None:
    """The theme's files are copied anew by every build, so all pages of the book count."""
    if exception is not None or app.builder.format != "html":
        return
    if getattr(app.config, "course_pages", []):
        return  # a translated edition uses the files of the English book
    out = Path(app.outdir)
    left_out = ("fontawesome.js", "webpack-macros.html")
    files = [*out.rglob("*.html"), *(out / "_static").rglob("*.js")]
    files = [p for p in files if not p.name.endswith(left_out) and p.parent.name != "data"]
    texts = (path.read_text(encoding="utf-8") for path in files)
    lighten(out / "_static", set().union(*map(words, texts)))
    for path in (out / "_images").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        if len(compact := compact_svg(text)) < len(text):
            path.write_text(compact, encoding="utf-8")


def write_first_page(app: Sphinx, exception: Exception | None) -> None:
    """index.html sends the reader on. Jupyter Book's own has no language, title or icon."""
    out = Path(app.outdir)
    root = f"{app.config.root_doc}.html"
    if exception is not None or app.builder.format != "html" or root == "index.html":
        return
    (out / "index.html").write_text(
        f"""<!DOCTYPE html>
<html lang="{app.config.language.replace("_", "-")}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(app.config.html_title)}</title>
<meta http-equiv="refresh" content="0; url={root}">
<link rel="icon" href="_static/favicon.svg">
</head>
<body><main><h1><a href="{root}">{escape(app.config.html_title)}</a></h1></main></body>
</html>
""",
        encoding="utf-8",
    )


def use_templates(app: Sphinx, config: Config) -> None:
    config.template_bridge = f"{__name__}.Templates"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", use_templates)
    app.connect("html-page-context", leave_out_what_is_not_used, priority=950)
    app.connect("build-finished", lighten_static_files, priority=900)
    app.connect("build-finished", write_first_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
