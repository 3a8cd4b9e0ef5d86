"""The book in other languages: message catalogues, and the editions built from them.

A language is a folder of ``book/locale``, a translated page a file ``LC_MESSAGES/<page>.po`` in it.
The messages are the English paragraphs, headings, captions and so on, taken from the committed
notebooks by Sphinx's gettext; code and outputs are none, so an edition shows the same ones.

An author need not know the language. A message that changed is *fuzzy* until a translator has
looked at it, and a fuzzy or missing one is shown in English. A page of which less than
``PUBLISHED_SHARE`` is translated is left out of the edition until it is again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from filecmp import cmp
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import denormalize, read_po, write_po
from bs4 import BeautifulSoup

from course_pkg.files import atomic_write

LOCALES = Path("book/locale")
INTERFACE = "interface"  # the catalogue of titles, captions of the contents, and fixed words
PUBLISHED_SHARE = 0.8

# What the pages say beside their text. {count} and {total} are numbers.
LEFT = "Passages of this page that are not translated yet, shown in English: {count}."
PHRASES = (
    LEFT,
    "Languages",
    "Search this book...",
    "Click to show",
    "Click to hide",
    "Show code cell source",
    "Hide code cell source",
    "Show code cell content",
    "Hide code cell content",
    "Show code cell output",
    "Hide code cell output",
    "Show code cell outputs",
    "Hide code cell outputs",
    "Open this notebook",
    "Open this notebook:",
    "Download (.ipynb)",
    "In the course’s folder, after",
    "Setting up",
    "says more, also for Windows.",
    "Difficulty:",
    "easy",
    "medium",
    "hard",
    "{count} point",
    "{count} points",
    "implement",
    "predict",
    "debug",
    "measure",
    "explore",
    "builds on",
    "Hint {count} of {total}",
    "Solution",
    "On the page with all solutions",
)

_HEADER = {"project-id-version", "language", "plural-forms", "mime-version", "content-type"}
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_MATH = re.compile(r"(?<![\\$])\$(?!\$)(.+?)(?<!\\)\$", re.DOTALL)
_ROLE = re.compile(r"\{([\w:.-]+)\}(`+)(.+?)\2", re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_FORMULA_TEXT = re.compile(r"(?<!_)\\text\{([^{}]*)\}")


@dataclass(frozen=True)
class Language:
    """A language of ``book/locale``: its code there, for example ``zh_CN``."""

    code: str

    @property
    def tag(self) -> str:
        """As HTML writes it: ``zh-CN``."""
        return self.code.replace("_", "-")

    @property
    def folder(self) -> str:
        """Where its pages are, below the English ones: ``zh``."""
        return self.code.partition("_")[0]

    @property
    def name(self) -> str:
        """What its readers call it."""
        return Locale.parse(self.code).get_language_name() or self.code


def languages(root: Path) -> list[Language]:
    """The languages that the repository has catalogues of."""
    return [
        Language(folder.parent.name) for folder in sorted(root.glob(f"{LOCALES}/*/LC_MESSAGES"))
    ]


def catalogue_path(root: Path, language: Language, name: str) -> Path:
    """Where the catalogue of a page (``book/intro``) or ``INTERFACE`` is."""
    return root / LOCALES / language.code / "LC_MESSAGES" / f"{name}.po"


def translated_pages(root: Path, language: Language) -> list[str]:
    """The pages that have a catalogue, in the order of the table of contents."""
    return [page for page in _pages(root) if catalogue_path(root, language, page).is_file()]


def published_pages(root: Path, language: Language) -> list[str]:
    """The pages of which enough is translated to be shown."""
    return [
        page
        for page in translated_pages(root, language)
        if Progress.of(load(root, language, page)).share >= PUBLISHED_SHARE
    ]


# Messages


def load(root: Path, language: Language, name: str) -> Catalog:
    """The catalogue of a page or ``INTERFACE``; empty where there is no file."""
    path = catalogue_path(root, language, name)
    if not path.is_file():
        return Catalog(locale=language.code)
    catalogue = read_po(BytesIO(path.read_bytes()), locale=language.code)
    for message in catalogue:
        _restore_previous(message)
    return catalogue


def _restore_previous(message: Message) -> None:
    """Babel writes the English that a fuzzy message had, and reads it as a comment."""
    before = " ".join(line[1:].strip() for line in message.user_comments if line[:1] == "|")
    if before:
        quoted = re.findall(r'"(?:[^"\\]|\\.)*"', before)
        message.previous_id = ["".join(denormalize(part) for part in quoted)]
        message.user_comments = [line for line in message.user_comments if line[:1] != "|"]


def messages(catalogue: Catalog) -> list[Message]:
    """The messages of a catalogue without its header."""
    return [message for message in catalogue if message.id]


def is_translated(message: Message) -> bool:
    """Whether the message is shown in the other language: neither missing nor fuzzy."""
    return bool(message.string) and not message.fuzzy


@dataclass(frozen=True)
class Progress:
    """How much of a catalogue is translated, and the English of the rest."""

    total: int
    fuzzy: tuple[str, ...]
    missing: tuple[str, ...]

    @classmethod
    def of(cls, catalogue: Catalog) -> "Progress":
        everything = messages(catalogue)
        return cls(
            total=len(everything),
            fuzzy=tuple(str(m.id) for m in everything if m.fuzzy),
            missing=tuple(str(m.id) for m in everything if not m.string and not m.fuzzy),
        )

    @property
    def left(self) -> int:
        """The number of messages that are shown in English."""
        return len(self.fuzzy) + len(self.missing)

    @property
    def share(self) -> float:
        """The part that is translated, 0 to 1; 0 for a catalogue without messages."""
        return 1 - self.left / self.total if self.total else 0.0


def fixed_parts(text: str) -> dict[str, list[str]]:
    """What a translation must take over as it is: code, math, roles, and the targets of links.

    The words of a formula (``\\text{if }``) are left out of it, since they are translated.
    """
    if _is_formula(text):
        return {"formula": [_FORMULA_TEXT.sub(r"\\text{}", text)]}
    roles, rest = [], text
    for name, _, content in _ROLE.findall(text):
        titled = re.fullmatch(r".*<([^<>]+)>", content, re.DOTALL)
        roles.append(f"{{{name}}} {titled[1] if titled else content}")
    rest = _ROLE.sub(" ", rest)
    code = [found[1] for found in _CODE.findall(rest)]
    rest = _CODE.sub(" ", rest)
    math = [_FORMULA_TEXT.sub(r"\\text{}", found) for found in _MATH.findall(rest)]
    return {
        "code": sorted(code),
        "math": sorted(" ".join(found.split()) for found in math),
        "roles": sorted(roles),
        "links": sorted(_LINK.findall(_MATH.sub(" ", rest))),
        "placeholders": sorted(re.findall(r"\{[a-z]+\}", _MATH.sub(" ", rest))),
    }


def prose(text: str) -> str:
    """A message without its code, math, roles and targets: what is left to be translated."""
    if _is_formula(text):
        return " ".join(_FORMULA_TEXT.findall(text))
    for pattern in (_ROLE, _CODE, _MATH):
        text = pattern.sub(" ", text)
    return _LINK.sub("]", text)


def has_words(text: str) -> bool:
    """Whether anything in a message needs a translator."""
    return re.search(r"[A-Za-z]{2,}", prose(text)) is not None


def _is_formula(text: str) -> bool:
    # Only block formulas keep the line breaks of their source.
    return "\n" in text


def formula_has_words(formula: str) -> bool:
    """Whether a block formula contains text in a human language."""
    return has_words(" ".join(_FORMULA_TEXT.findall(formula)))


# From the pages to the catalogues


def templates(root: Path, pages: Iterable[str]) -> dict[str, Catalog]:
    """The English messages of pages and of ``INTERFACE``, read from the committed notebooks.

    They are also written as ``.pot`` files into ``_build/gettext``.

    Raises:
        ValueError: a page is not in the table of contents, or Sphinx cannot read one.
    """
    pages, work = list(pages), root / "_build" / "gettext"
    if unknown := sorted(set(pages) - set(_pages(root))):
        raise ValueError(f"pages has {unknown[0]!r}, which is not in _toc.yml.")
    found = {INTERFACE: _interface(root, pages)}
    if pages:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        contents: dict[str, Any] = {"format": "jb-book", "root": pages[0]}
        if pages[1:]:
            contents["chapters"] = [{"file": page} for page in pages[1:]]
        (work / "_toc.yml").write_text(yaml.safe_dump(contents), encoding="utf-8")
        result = _sphinx(
            root,
            builder="gettext",
            output=work / "pot",
            config=root / "_config.yml",
            contents=work / "_toc.yml",
            quiet=True,
            overrides={
                "gettext_compact": False,
                "gettext_location": False,
                # Figures are read too, for their captions and alternative texts.
                "nb_mime_priority_overrides": [["gettext", "image/svg+xml", 0]],
                "language": "en",
            },
        )
        if result.returncode:
            raise ValueError(f"pages cannot be read:\n{result.stderr}")
    for page in pages:
        with (work / "pot" / f"{page}.pot").open("rb") as file:
            source = read_po(file)
        found[page] = Catalog()
        for message in messages(source):
            found[page].add(message.id)
        (work / "pot" / f"{page}.pot").write_bytes(_text(found[page]))
    return found


def _interface(root: Path, pages: Iterable[str]) -> Catalog:
    """The messages that belong to no translated page."""
    catalogue = Catalog()
    config = _yaml(root / "_config.yml")
    catalogue.add(config["title"], auto_comments=["the book's title"])
    if footer := str(config.get("html", {}).get("extra_footer", "")).strip():
        catalogue.add(footer, auto_comments=["below each page"])
    for part in _yaml(root / "_toc.yml").get("parts", []):
        catalogue.add(part["caption"], auto_comments=["a part of the book"])
    for page in _pages(root):
        if page not in pages:
            catalogue.add(_title(root, page), auto_comments=[f"the title of {page}"])
    for phrase in PHRASES:
        catalogue.add(phrase, auto_comments=["a fixed phrase"])
    return catalogue


def merged(catalogue: Catalog, template: Catalog, language: Language) -> Catalog:
    """The catalogue with the template's messages.

    A translation whose English changed is kept beside the old English and becomes fuzzy. A message
    without words (a reference, a name in code) is its own translation.
    """
    result = Catalog(locale=language.code)
    for message in messages(catalogue):
        result[message.id] = message
    result.update(template)
    before = {message.id: message.previous_id for message in messages(catalogue)}
    for message in messages(result):
        message.previous_id = before.get(message.id, message.previous_id)
        if not has_words(str(message.id)):
            message.string = message.id
            message.flags.discard("fuzzy")
            message.previous_id = []
        elif not message.string:
            message.flags.discard("fuzzy")
        elif not message.fuzzy:
            message.previous_id = []
    result.obsolete.clear()
    return result


def update(root: Path, check: bool = False) -> dict[Path, Progress]:
    """Bring all catalogues into step with the English pages.

    Args:
        root: the repository.
        check: change nothing.

    Returns:
        How much of each changed catalogue is translated; with ``check``, of each that would change.

    Raises:
        ValueError: Sphinx cannot read a page.
    """
    changed = {}
    known = languages(root)
    all_pages = {page for language in known for page in translated_pages(root, language)}
    found = templates(root, [page for page in _pages(root) if page in all_pages])
    for language in known:
        pages = translated_pages(root, language)
        for name in (*pages, INTERFACE):
            template = found[name] if name != INTERFACE else _interface(root, pages)
            catalogue = merged(load(root, language, name), template, language)
            path, text = catalogue_path(root, language, name), _text(catalogue)
            if not path.is_file() or path.read_bytes() != text:
                changed[path] = Progress.of(catalogue)
                if not check:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path) as file:
                        file.write(text.decode("utf-8"))
    return changed


def _text(catalogue: Catalog) -> bytes:
    """A catalogue as a file without dates and names, so that only its messages change it."""
    buffer = BytesIO()
    catalogue.project, catalogue.version = "GPT, Piece by Piece", ""
    catalogue.header_comment, catalogue.fuzzy = "", False
    write_po(buffer, catalogue, width=100, include_previous=True, ignore_obsolete=True)
    lines: list[str] = []
    for line in buffer.getvalue().decode("utf-8").splitlines():
        field = re.match(r'"([A-Za-z-]+):', line)
        if field and 'msgid ""' in lines[:3] and len(lines) < 12:
            if field[1].lower() not in _HEADER:
                continue
            line = line.replace("GPT, Piece by Piece \\n", "GPT, Piece by Piece\\n")
        lines.append(line)
    while lines and not lines[0].strip("# "):
        lines.pop(0)
    return ("\n".join(lines).strip("\n") + "\n").encode("utf-8")


# From the catalogues to an edition


def build_edition(root: Path, language: Language) -> list[str]:
    """Build the pages of one language into the English book, in ``_build/html/<folder>``.

    The English book must be built: what Sphinx knows of its other pages makes references and
    numbers right. Links to them lead there, and so do files that are the same in both books.

    Returns:
        The pages that were written; none where too little is translated.

    Raises:
        ValueError: Sphinx has warnings or errors, which it has printed.
    """
    english = root / "_build" / "html"
    target = english / language.folder
    pages = published_pages(root, language)
    if not pages:
        shutil.rmtree(target, ignore_errors=True)
        return []
    work = root / "_build" / language.folder
    work.mkdir(parents=True, exist_ok=True)
    _copy_catalogues(root, language, work / "locale")
    config = work / "_config.yml"
    config.write_text(yaml.safe_dump(_edition_config(root, language)), encoding="utf-8")
    result = _sphinx(
        root,
        builder="html",
        output=work / "html",
        config=config,
        contents=root / "_toc.yml",
        quiet=False,
        overrides={
            **_phrases(root, language),
            "course_english_doctrees": str((root / "_build" / ".doctrees").resolve()),
            "course_pages": pages,
            "gettext_compact": False,
            "html_domain_indices": False,
            "html_use_index": False,
            "language": language.code,
            "locale_dirs": [str((work / "locale").resolve())],
            "translation_progress_classes": "untranslated",
        },
    )
    if result.returncode:
        shutil.rmtree(work / ".doctrees", ignore_errors=True)
        raise ValueError(f"the edition {language.code} has errors or warnings, listed above")
    publish(work / "html", english, target, pages)
    for page in pages:
        if differs := difference(english / f"{page}.html", target / f"{page}.html"):
            raise ValueError(f"the edition {language.code} of {page} {differs}")
    return pages


def difference(english: Path, translated: Path) -> str:
    """What differs between the code and outputs of a page and of its translation, or ``""``."""
    pages = []
    for path in (english, translated):
        html = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        pages.append([cell.get_text() for cell in html.select(".cell_input pre, .cell_output pre")])
    if len(pages[0]) != len(pages[1]):
        return (
            f"has {len(pages[1])} blocks of code and output; the English page has {len(pages[0])}"
        )
    for number, (ours, theirs) in enumerate(zip(*pages, strict=True), start=1):
        if ours != theirs:
            return f"differs from the English page in block {number}: {theirs.strip()[:60]!r}"
    return ""


def _copy_catalogues(root: Path, language: Language, target: Path) -> None:
    """Sphinx compiles catalogues where they are: it gets a copy, and the repository stays clean."""
    source = root / LOCALES
    for path in source.glob(f"{language.code}/LC_MESSAGES/**/*.po"):
        copy = target / path.relative_to(source)
        if not (copy.is_file() and cmp(path, copy, shallow=False)):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for copy in target.glob("**/*.po"):
        if not (source / copy.relative_to(target)).is_file():
            copy.unlink()
            copy.with_suffix(".mo").unlink(missing_ok=True)


def _edition_config(root: Path, language: Language) -> dict[str, Any]:
    """The book's configuration with its title and footer in the language."""
    config = _yaml(root / "_config.yml")
    words = dictionary(load(root, language, INTERFACE))
    config["title"] = words.get(config["title"], config["title"])
    footer = str(config["html"].get("extra_footer", "")).strip()
    config["html"]["extra_footer"] = words.get(footer, footer)
    # Jupyter Book looks for extensions beside the configuration.
    local = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {n: str((root / p).resolve()) for n, p in local.items()}
    # Sources are shown in the English book.
    extensions = config["sphinx"]["extra_extensions"]
    config["sphinx"]["extra_extensions"] = [e for e in extensions if e != "sphinx.ext.viewcode"]
    return config


def _phrases(root: Path, language: Language) -> dict[str, Any]:
    """Phrases that extensions take from the configuration."""
    words = dictionary(load(root, language, INTERFACE))
    settings = {
        "togglebutton_hint": "Click to show",
        "togglebutton_hint_hide": "Click to hide",
    }
    return {name: words.get(phrase, phrase) for name, phrase in settings.items()}


def dictionary(catalogue: Catalog) -> dict[str, str]:
    """English -> the other language, of what is translated."""
    return {str(m.id): str(m.string) for m in messages(catalogue) if is_translated(m)}


_ATTRIBUTE = re.compile(r'(?P<name>\b(?:href|src)=")(?P<link>[^"#?:]+)(?P<rest>[^":]*")')
_TAG = re.compile(r"<a\b[^>]*>")
_UNTRANSLATED = re.compile(
    r'<(?!img\b)(?P<tag>\w+)(?P<rest>[^>]*\bclass="(?:[^"]* )?untranslated[ "])'
)


def publish(edition: Path, english: Path, target: Path, pages: Iterable[str]) -> None:
    """Put an edition into the English book, without the files that are there already.

    Args:
        edition: what Sphinx wrote.
        english: the built English book.
        target: a folder in ``english``; what was in it is replaced.
        pages: the pages of the edition; its search page is taken too.
    """
    shutil.rmtree(target, ignore_errors=True)
    up = Path(os.path.relpath(english, target))
    written = {f"{page}.html" for page in pages} | {"search.html", "index.html"}
    files = {path.relative_to(edition) for path in edition.rglob("*") if path.is_file()}
    loaded = set()
    for name in sorted(files):
        if name.as_posix() in written:
            text = (edition / name).read_text(encoding="utf-8")
            links = (match["link"] for match in _ATTRIBUTE.finditer(text))
            loaded |= {Path(os.path.normpath(name.parent / link)) for link in links}
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_linked(text, name, edition, english, up), encoding="utf-8")
    # What no page names is loaded by a file of the English book, and is there.
    for name in sorted(files & loaded):
        if name.suffix != ".html" and not _is_english_too(name, edition, english):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(edition / name, copy)


def _is_english_too(name: Path, edition: Path, english: Path) -> bool:
    """Whether the English book's file will do. Only scripts differ between languages.

    The other files were made from the same sources and are lighter in the English book.
    """
    if not (english / name).is_file():
        return False
    own = edition / name
    return own.suffix != ".js" or not own.is_file() or cmp(own, english / name, shallow=False)


def _linked(text: str, page: Path, edition: Path, english: Path, up: Path) -> str:
    """A page whose links to what both books have lead to the English one, and say so."""

    def shared(match: re.Match[str]) -> str:
        link = match["link"]
        name = Path(os.path.normpath(page.parent / link))
        if name.suffix == ".html" or name.parts[:1] == ("..",):
            return match[0]
        if not _is_english_too(name, edition, english):
            return match[0]
        back = Path(os.path.relpath(".", page.parent)) / up / name
        return f"{match['name']}{back.as_posix()}{match['rest']}"

    def foreign(match: re.Match[str]) -> str:
        tag = match[0]
        href = re.search(r'\bhref="([^"#?:]+\.html)', tag)
        if href is None or "hreflang=" in tag:
            return tag
        if os.path.normpath(page.parent / href[1]).startswith(".."):
            return f'{tag[:-1]} hreflang="en">'
        return tag

    text = _ATTRIBUTE.sub(shared, text)
    text = _UNTRANSLATED.sub(r'<\g<tag> lang="en"\g<rest>', text)
    return _TAG.sub(foreign, text)


# Reading the repository


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _pages(root: Path) -> list[str]:
    contents = _yaml(root / "_toc.yml")
    parts: Iterator[dict[str, Any]] = (
        chapter for part in contents.get("parts", []) for chapter in part["chapters"]
    )
    return [contents["root"], *(chapter["file"] for chapter in parts)]


def _title(root: Path, page: str) -> str:
    """A page's first heading."""
    text = (root / f"{page}.md").read_text(encoding="utf-8")
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    if heading is None:
        raise ValueError(f"{page}.md has no heading of the first level.")
    return heading[1].strip()


_RUN = """
import json, sys
from jupyter_book.sphinx import build_sphinx
result = build_sphinx(**json.loads(sys.argv[1]))
sys.exit(result if isinstance(result, int) else 1)
"""


def _sphinx(
    root: Path,
    *,
    builder: str,
    output: Path,
    config: Path,
    contents: Path,
    quiet: bool,
    overrides: dict[str, Any],
) -> subprocess.CompletedProcess[str]:
    """Run Sphinx as Jupyter Book does, in a process of its own.

    A quiet run keeps its messages for the caller and passes over warnings.
    """
    arguments = {
        "sourcedir": str(root.resolve()),
        "outputdir": str(output.resolve()),
        "noconfig": True,
        "path_config": str(config.resolve()),
        "confoverrides": {
            "external_toc_path": str(contents.resolve()),
            "latex_individualpages": False,
            "nitpicky": not quiet,
            **overrides,
        },
        "doctreedir": str((output.parent / ".doctrees").resolve()),
        "builder": builder,
        "quiet": True,
        "warningiserror": not quiet,
        "keep_going": True,
    }
    return subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(arguments)],
        cwd=root,
        capture_output=quiet,
        text=True,
        check=False,
    )
