"""The book in several languages: what is translated, written and linked in each edition.

``course_pkg.authoring.translation`` says what an edition is and builds it; here are its hooks.
"""

import pickle
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path, PurePosixPath
from posixpath import relpath
from shutil import copyfile
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.search.zh import SearchChinese
from sphinx.transforms import SphinxTransform

from course_pkg.authoring import translation
from course_pkg.authoring.translation import INTERFACE, Language

_ENGLISH = "en"
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_RUN = re.compile(f"[{_CJK}]+")
_OTHER_WORD = re.compile(rf"[^\W{_CJK}]+")


def is_edition(app: Sphinx) -> bool:
    """Whether a translated edition is built, and not the English book."""
    return bool(app.config.course_pages)


def words(app: Sphinx) -> dict[str, str]:
    """The interface's phrases in the edition's language."""
    if not is_edition(app):
        return {}
    if not hasattr(app, "_course_words"):
        language = Language(app.config.language)
        catalogue = translation.load(Path(app.srcdir), language, INTERFACE)
        app._course_words = translation.dictionary(catalogue)  # type: ignore[attr-defined]
    return app._course_words  # type: ignore[attr-defined]


# Reading


class PrepareMessages(SphinxTransform):
    """Make messages of what Sphinx would miss or spoil.

    A formula is translated as text and not as markup, and one without words is no message. A table
    in a box gets the source that Sphinx asks of every message.
    """

    default_priority = 19  # before Sphinx's own translation, at 20

    def apply(self, **kwargs: Any) -> None:
        for cell in self.document.findall(nodes.entry):
            for paragraph in cell.findall(nodes.paragraph):
                paragraph.source = paragraph.source or self.document["source"]
        edition, known = is_edition(self.app), {}
        if edition and self.env.docname in self.config.course_pages:
            root, language = Path(self.app.srcdir), Language(self.config.language)
            known = translation.dictionary(translation.load(root, language, self.env.docname))
        for formula in self.document.findall(nodes.math_block):
            source = formula.astext()
            if edition or not translation.formula_has_words(source):
                formula["translatable"] = False
            translated = known.get(formula.rawsource or source) or known.get(source)
            if translated:
                formula.children = [nodes.Text(translated)]


def translate_frame(app: Sphinx, doctree: nodes.document) -> None:
    """In an edition: the contents' captions, other pages' titles, and a word on what is missing."""
    if not is_edition(app):
        return
    known = words(app)
    for toctree in doctree.findall(addnodes.toctree):
        if toctree["caption"]:
            toctree["caption"] = known.get(toctree["caption"], toctree["caption"])
    title = next(iter(doctree.findall(nodes.title)), None)
    page = app.env.docname
    if title is None:
        return
    if page not in app.config.course_pages:
        english = title.astext()
        if english in known:
            title.children = [nodes.Text(known[english])]
        return
    language = Language(app.config.language)
    left = translation.Progress.of(translation.load(Path(app.srcdir), language, page)).left
    if left:
        text = known.get(translation.LEFT, translation.LEFT).format(count=left)
        note = nodes.note("", nodes.paragraph("", text), classes=["course-untranslated"])
        title.parent.insert(title.parent.index(title) + 1, note)


def take_over(app: Sphinx, env: BuildEnvironment, to_read: list[str]) -> None:
    """Take what the English build knows of its other pages, as a parallel build takes its parts.

    References, numbers and titles need all pages, but only the translated ones are read again.
    Where the English build left nothing that fits, all are read.
    """
    known = Path(app.config.course_english_doctrees)
    file = known / "environment.pickle"
    others = [page for page in to_read if page not in app.config.course_pages]
    if not (is_edition(app) and app.config.course_english_doctrees and file.is_file()):
        return
    with file.open("rb") as pickled:
        english = pickle.load(pickled)
    if not set(others) <= set(english.all_docs):
        return
    for page in others:
        if page in env.all_docs:
            app.emit("env-purge-doc", env, page)
            env.clear_doc(page)
        copy = Path(env.doctreedir) / f"{page}.doctree"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copyfile(known / f"{page}.doctree", copy)
    env.merge_info_from(others, english, app)
    for page in others:
        _translate_title(env, page, words(app))
    to_read[:] = [page for page in to_read if page not in others]


def _translate_title(env: BuildEnvironment, page: str, known: dict[str, str]) -> None:
    """The title of a page that is not read again, wherever it has been collected."""
    english = env.titles[page].astext()
    if english not in known:
        return
    for title in (env.titles[page], env.longtitles[page]):
        title.children = [nodes.Text(known[english])]
    first = next(iter(env.tocs[page].findall(nodes.reference)), None)
    if first is not None and first.astext() == english:
        first.children = [nodes.Text(known[english])]


# Writing


class EditionBuilder(StandaloneHTMLBuilder):
    """Writes the translated pages. The addresses of the others are those of the English book."""

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        uri = super().get_target_uri(docname, typ)
        known = {*self.config.course_pages, "search"}
        return uri if docname in known else f"../{uri}"

    def write(
        self,
        build_docnames: Iterable[str] | None,
        updated_docnames: Iterable[str],
        method: str = "update",
    ) -> None:
        super().write(self.config.course_pages, [], method)

    def load_indexer(self, docnames: Iterable[str]) -> None:
        """The index holds the translated pages, and all of them are written anew each time."""


def choose_templates(app: Sphinx, config: Config) -> None:
    """The switch stands in the header, in front of the theme's buttons."""
    config.templates_path.append(str(Path(__file__).parent / "templates"))
    config.html_theme_options["article_header_end"] = [
        "language-switch.html",
        "article-header-buttons.html",
    ]
    root = Path(app.srcdir)
    if config.course_pages:
        phrase = config.html_theme_options.get("search_bar_text", "Search this book...")
        config.html_theme_options["search_bar_text"] = words(app).get(phrase, phrase)
    else:
        config.course_editions = {
            language.code: translation.published_pages(root, language)
            for language in translation.languages(root)
        }


def _versions(app: Sphinx, page: str) -> dict[str, tuple[str, str]]:
    """Language tag -> (name, address from the English book's root) of a page's versions."""
    address = f"{page}.html"
    if is_edition(app):
        language = Language(app.config.language)
        editions = {language: [*app.config.course_pages]}
    else:
        editions = {Language(code): pages for code, pages in app.config.course_editions.items()}
    found = {_ENGLISH: ("English", address)}
    for language, pages in editions.items():
        if pages and page in {*pages, "search"}:
            found[language.tag] = (language.name, f"{language.folder}/{address}")
    return found if len(found) > 1 else {}


def link_versions(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A page that exists in several languages names the others, to readers and to machines."""
    own = Language(app.config.language).tag
    versions = _versions(app, page)
    folder = str(PurePosixPath(versions[own][1]).parent) if versions else ""
    links = {tag: (name, relpath(address, folder)) for tag, (name, address) in versions.items()}
    context["course_translations"] = [
        {"tag": tag, "name": name, "href": href}
        for tag, (name, href) in links.items()
        if tag != own
    ]
    context["course_languages_label"] = words(app).get("Languages", "Languages")
    alternates = [
        f'<link rel="alternate" hreflang="{escape(tag)}" href="{escape(href)}">'
        for tag, (_, href) in links.items()
    ]
    if links:
        alternates.append(
            f'<link rel="alternate" hreflang="x-default" href="{escape(links[_ENGLISH][1])}">'
        )
        app.add_js_file("languages.js", loading_method="defer")
    context["metatags"] = context.get("metatags", "") + "\n".join(alternates)
    if is_edition(app):
        app.add_js_file(None, body='window.courseEnglish = "../";')  # where hover.js finds names
        context["body"] = translate_phrases(context.get("body", ""), words(app))


# What extensions put beside a page's text, after that was translated.
_BESIDE = re.compile(
    r'<p class="(?:collapsed|expanded) admonition-title">[^<]*</p>'
    r'|<nav class="open-notebook".*?</nav>'
    r'|<ul class="exercise-facts">.*?</ul>'
    r'|<p class="exercise-more">.*?</p>'
    r'|<details class="exercise-fold[^>]*><summary>[^<]*</summary>\s*<div>',
    re.DOTALL,
)


def translate_phrases(body: str, known: dict[str, str]) -> str:
    """A page's HTML with the fixed phrases beside its text in the language.

    Hints and solutions are in English, and marked so.
    """

    def phrase(match: re.Match[str]) -> str:
        names, numbers = iter(("count", "total")), re.findall(r"\d+", match[2])
        general = match[2]
        if 0 < len(numbers) <= 2:
            general = re.sub(r"\d+", lambda _: f"{{{next(names)}}}", general)
        if general not in known:
            return match[0]
        values = dict(zip(("count", "total"), numbers, strict=False))
        return match[1] + known[general].format(**values) + match[3]

    def block(match: re.Match[str]) -> str:
        text = re.sub(r'((?:>|aria-label=")\s*)([^<>"\s][^<>"]*?)(\s*[<"])', phrase, match[0])
        if text.startswith("<details"):
            text = text.removesuffix("<div>") + '<div lang="en">'
        return text

    return _BESIDE.sub(block, body)


# Searching


class ChineseByPairs(SearchChinese):
    """An index of each Chinese character and each two that follow each other.

    Sphinx's own class cuts text into words with a dictionary, in the index only: a query of two
    words then finds nothing, since the page does not know where to cut it. Pairs need neither a
    dictionary nor a package, and the page cuts a query in the same way.
    """

    lang = "zh_CN"
    js_splitter_code = """
function splitQuery(query) {
  const terms = [];
  for (const [run] of query.matchAll(/[CJK]+|[^\\s\\p{P}\\p{S}CJK]+/gu)) {
    if (!/[CJK]/.test(run) || run.length === 1) terms.push(run);
    else for (let i = 0; i + 1 < run.length; i++) terms.push(run.slice(i, i + 2));
  }
  return terms;
}
""".replace("CJK", "\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff")

    def split(self, input: str) -> list[str]:
        found = []
        for run in _CJK_RUN.findall(input):
            found += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        latin = _OTHER_WORD.findall(input)
        self.latin_terms.extend(latin)
        return found + latin

    def word_filter(self, word: str) -> bool:
        return bool(_CJK_RUN.match(word)) or (len(word) > 1 and word not in self.stopwords)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("course_pages", [], "env", [list])
    app.add_config_value("course_english_doctrees", "", "", [str])
    app.add_config_value("course_editions", {}, "html", [dict])
    app.connect("config-inited", choose_templates)
    app.add_transform(PrepareMessages)
    app.connect("doctree-read", translate_frame, priority=100)  # before titles are collected
    app.connect("env-before-read-docs", take_over)
    app.connect("html-page-context", link_versions)
    app.add_css_file("languages.css")
    app.add_search_language(ChineseByPairs)
    if app.config.course_pages:
        app.add_builder(EditionBuilder, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
