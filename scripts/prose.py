"""Look for filler, hype, clichés and overlong sentences in the book's prose.

    python scripts/prose.py              all pages, or those that are named

The Markdown is parsed, so code, formulas and the options of directives are left out; the captions
and alternative texts of figures are prose and looked at. What is left goes to proselint and to the
rules of this course below. What is switched off, and why, is in pyproject.toml under
``[tool.prose]``. Prints one line for each finding, as FILE:LINE: RULE: what is wrong.
"""

import itertools
import re
import sys
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.attrs import attrs_plugin
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from proselint.checks import __register__ as ALL_CHECKS
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("book/*.md", "solutions/*.md")

# Directives whose content is prose, with a title behind the name; and those that hold none.
PROSE_DIRECTIVES = {"admonition", "margin", "note", "tip", "warning"}
OTHER_DIRECTIVES = {"bibliography", "eval-rst", "math", "toctree"}

# Word, or words, and what to do instead. Quoted words are left alone.
HOUSE_RULES = {
    "filler": (
        r"simply|obviously|of course|just|very|really|basically|actually|trivially|needless to say"
        r"|as (?:you|we) (?:can|may) see|it goes without saying|it is (?:worth|important)"
        r"(?: to note| noting)|let's|let us",
        "says nothing, or makes a reader feel slow: leave it out or say how much",
    ),
    "hype": (
        r"amazing(?:ly)?|awesome|beautiful(?:ly)?|blazing(?:ly)?|breathtaking|brilliant(?:ly)?"
        r"|cutting[- ]edge|deep dive|delves?|dive into|effortless(?:ly)?|elegant(?:ly)?|exciting"
        r"|game[- ]chang(?:er|ing)|incredibl[ey]|leverag(?:e|es|ed|ing)|lightning[- ]fast|magic"
        r"(?:al|ally)?|powerful|revolutionary|seamless(?:ly)?|state[- ]of[- ]the[- ]art|stunning"
        r"|supercharg(?:e|es|ed)|unleash(?:es)?|world[- ]class",
        "promises: say what was measured",
    ),
    "spelling": (
        r"(?:color|behavior|favor|neighbor|labor)(?:s|ed|ing|hood|able|ite)?|(?:re)?centers?|grays?"
        r"|(?:label|model|cancel|travel)(?:ed|ing)|analyz(?:e|es|ed|ing)|catalogs?",
        "is American, and the text is British",
    ),
    "exclamation": (r"(?<=\w)!(?=\s|$)", "shouts: end with a full stop"),
}

# Keeps the last word of a block and the first of the next from reading as a repetition.
BETWEEN_BLOCKS = "\n\n¶\n\n"


class Finding(NamedTuple):
    """Something to mend at a line of a file."""

    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}: {self.rule}: {self.message}"


@dataclass
class Block:
    """A paragraph, heading, cell or caption as one line of text, and where its pieces stand.

    Code and formulas are stand-ins such as ``Xcd``, each with a name of its own, so that two of
    them in a row are not a repeated word.
    """

    text: str = ""
    starts: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(self, text: str, line: int) -> None:
        self.starts.append(len(self.text))
        self.lines.append(line)
        self.text += text

    def line_at(self, offset: int) -> int:
        """The source line of the character at ``offset``."""
        return self.lines[max(0, bisect_right(self.starts, offset) - 1)]


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    for plugin in (
        amsmath_plugin,
        attrs_plugin,
        colon_fence_plugin,
        deflist_plugin,
        dollarmath_plugin,
        front_matter_plugin,
        myst_block_plugin,
        myst_role_plugin,
    ):
        parser.use(plugin)
    return parser


class Prose:
    """The prose of one page, as blocks in the order of the page.

    Raises:
        ValueError: a directive is neither known to hold prose nor known to hold none.
    """

    def __init__(self, source: str) -> None:
        self.blocks: list[Block] = []
        self._parser = _parser()
        self._stand_ins = 0
        self._read(source, 1)

    def _read(self, source: str, first_line: int) -> None:
        """Add what is prose in ``source``, whose first line is ``first_line`` of the page."""
        raw = source.split("\n")
        for token in self._parser.parse(source):
            if token.map is None:
                continue
            line = first_line + token.map[0]
            if token.type == "inline":
                self._inline(token, "\n".join(raw[token.map[0] : token.map[1]]), line)
            elif directive := re.match(r"\{([\w:-]+)\}\s*(.*)", token.info):
                self._directive(directive[1], directive[2], token.content, line)

    def _directive(self, name: str, title: str, content: str, line: int) -> None:
        if name == "code-cell":
            self._figure(content, line + 1)
        elif name == "glossary":
            self._glossary(content, line + 1)
        elif name in PROSE_DIRECTIVES:
            if title:
                self._read(title, line)
            body = content.split("\n")
            options = 0
            while options < len(body) and re.match(r":[\w-]+:", body[options]):
                options += 1
            self._read("\n".join(body[options:]), line + 1 + options)
        elif name not in OTHER_DIRECTIVES:
            known = ", ".join(sorted(PROSE_DIRECTIVES | OTHER_DIRECTIVES))
            raise ValueError(f"line {line}: the directive {name!r} is not known, only {known}")

    def _figure(self, content: str, line: int) -> None:
        """The caption and the alternative text in the options of a code cell."""
        if not content.startswith("---\n"):
            return
        options = content.split("\n---\n")[0]
        metadata = (yaml.safe_load(options) or {}).get("mystnb", {})
        for kind, key in (("image", "alt"), ("figure", "caption")):
            text = metadata.get(kind, {}).get(key)
            if text:
                rows = options.split("\n")
                row = next(i for i, each in enumerate(rows) if each.strip().startswith(f"{key}:"))
                self._read(text.replace("\n", " "), line + row)

    def _glossary(self, content: str, line: int) -> None:
        rows = content.split("\n")
        for i, row in enumerate(rows):
            if not row.startswith(" "):
                self._read(row, line + i)
            elif not rows[i - 1].startswith(" "):
                end = next((j for j in range(i, len(rows)) if not rows[j].strip()), len(rows))
                self._read("\n".join(each.strip() for each in rows[i:end]), line + i)

    def _inline(self, token: Token, raw: str, first_line: int) -> None:
        block = Block()
        cursor = 0
        for child in token.children or []:
            text = self._text(child)
            # Code and roles that run over the end of a line come without it: find them again.
            words = child.content.split()
            if words and (
                found := re.compile(r"\s+".join(map(re.escape, words))).search(raw, cursor)
            ):
                block.add(text, first_line + raw.count("\n", 0, found.start()))
                cursor = found.end()
            else:
                block.add(text, first_line + raw.count("\n", 0, cursor))
                if child.type in ("softbreak", "hardbreak"):
                    cursor = max(cursor, raw.find("\n", cursor) + 1)
        if block.text.strip():
            self.blocks.append(block)

    def _text(self, child: Token) -> str:
        """What a reader reads in the place of this piece of Markdown."""
        match child.type:
            case "text" | "image":
                return child.content
            case "softbreak" | "hardbreak":
                return " "
            case "myst_role":
                if child.meta["name"] == "cite:p":
                    return ""  # in brackets, and not part of the sentence
                title = re.fullmatch(r"(.+?)\s*<[^>]+>", child.content, re.DOTALL)
                is_id = title and re.fullmatch(r"\d\d\.\w+", title[1])  # of an exercise
                return title[1].replace("\n", " ") if title and not is_id else self._stand_in()
            case "code_inline" | "math_inline" | "math_inline_double":
                return self._stand_in()
        return ""

    def _stand_in(self) -> str:
        self._stand_ins += 1
        return "X" + "".join("abcdefghij"[int(digit)] for digit in str(self._stand_ins))


def settings() -> dict[str, Any]:
    """What pyproject.toml says under ``[tool.prose]``."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prose"]


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Each sentence of ``text``, with the offset at which it starts."""
    start = 0
    for end in re.finditer(r"[.!?][\"”)*]*(?=\s+[\"“(]*[A-Z0-9])|$", text):
        sentence = text[start : end.end()]
        yield start + len(sentence) - len(sentence.lstrip()), sentence.strip()
        start = end.end()


def _without_quotations(text: str) -> str:
    """``text`` with each quotation blotted out, at the same length: others' words are not ours."""
    numbers = itertools.count()
    return re.sub(
        r'"[^"]*"|“[^”]*”', lambda found: f"Q{next(numbers)}".ljust(len(found[0]), "q"), text
    )


def check(path: Path, source: str, off: list[str], longest_sentence: int) -> list[Finding]:
    """All findings in the page ``source``, in the order of its lines.

    Raises:
        ValueError: the page has a directive that is not known.
    """
    blocks = Prose(source).blocks
    if not blocks:
        return []
    texts = [_without_quotations(block.text) for block in blocks]
    starts = list(itertools.accumulate((len(t + BETWEEN_BLOCKS) for t in texts), initial=0))
    text = BETWEEN_BLOCKS.join(texts)

    def line_at(offset: int) -> int:
        i = bisect_right(starts, offset) - 1
        return blocks[i].line_at(offset - starts[i])

    page = LintFile(source=str(path), content=text)
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(ALL_CHECKS)
    # The first name that fits decides, so what is switched off comes first.
    checks = dict.fromkeys(off, False) | DEFAULT["checks"]
    findings = [
        Finding(path, line_at(result.span[0] - 1), result.check_path, result.message)
        for result, _ in page.lint({"max_errors": sys.maxsize, "checks": checks})
    ]
    for rule, (pattern, why) in HOUSE_RULES.items():
        whole = pattern if rule == "exclamation" else rf"\b(?:{pattern})\b"
        for found in re.finditer(whole, text, re.IGNORECASE):
            message = f"'{found[0]}' {why}"
            findings.append(Finding(path, line_at(found.start()), f"house.{rule}", message))
    for block, words_of_ours in zip(blocks, texts, strict=True):
        for offset, sentence in sentences(words_of_ours):
            words = len(re.findall(r"\w[\w'’.-]*", sentence))
            if words > longest_sentence:
                message = f"a sentence of {words} words, more than {longest_sentence}: cut it"
                findings.append(Finding(path, block.line_at(offset), "house.length", message))
    return sorted(findings)


@click.command()
@click.argument("pages", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(pages: tuple[Path, ...]) -> None:
    """Look at the prose of PAGES, or of all pages of the book and the solutions."""
    chosen = [page.resolve() for page in pages]
    if not chosen:
        chosen = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    findings = []
    for page in chosen:
        try:
            findings += check(page, page.read_text(encoding="utf-8"), **settings())
        except ValueError as error:
            raise click.ClickException(f"{page}: {error}") from None
    for finding in findings:
        click.echo(finding)
    if findings:
        raise SystemExit(1)
    click.echo(f"The prose of {len(chosen)} pages has nothing to mend.")


if __name__ == "__main__":
    main()
