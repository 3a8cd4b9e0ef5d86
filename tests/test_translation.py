"""The book in other languages: catalogues in step, translations that keep what they must, pages."""

import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import browser
import nbformat
import pytest
import yaml
from babel.messages.catalog import Catalog
from bs4 import BeautifulSoup

from course_pkg.authoring import translation
from course_pkg.authoring.translation import INTERFACE, Language, Progress

ROOT = Path(__file__).parent.parent
CHINESE = Language("zh_CN")
CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# Names that Chinese texts write as they are. A message of nothing else may stay.
NAMES = re.compile(r"\b(?:GPT(?:-2)?|HuggingFace|LLMs-from-scratch|nanoGPT|PyTorch|Python)\b")


def catalogues():
    return [
        (language, name)
        for language in translation.languages(ROOT)
        for name in (*translation.translated_pages(ROOT, language), INTERFACE)
    ]


def catalogue(*entries):
    """A catalogue of (English, translation) pairs."""
    made = Catalog(locale="zh_CN")
    for english, translated in entries:
        made.add(english, translated)
    return made


# The committed catalogues


def test_the_introduction_and_chapter_2_are_shown_in_chinese():
    assert translation.languages(ROOT) == [CHINESE]
    assert translation.translated_pages(ROOT, CHINESE) == ["book/intro", "book/02_causal_attention"]
    assert (CHINESE.tag, CHINESE.folder, CHINESE.name) == ("zh-CN", "zh", "中文")


def test_the_catalogues_are_in_step_with_the_english_pages():
    changed = translation.update(ROOT, check=True)
    assert changed == {}, "run `make gettext` and commit book/locale (you need not know Chinese)"


@pytest.mark.parametrize(("language", "name"), catalogues())
def test_what_is_not_translated_is_reported(language, name):
    found = translation.load(ROOT, language, name)
    progress = Progress.of(found)
    told = {*progress.fuzzy, *progress.missing}
    for message in translation.messages(found):
        assert translation.is_translated(message) != (message.id in told), message.id
    print(f"{language.code} {name}: {progress.share:.0%}, {progress.left} left")


@pytest.mark.parametrize(("language", "name"), catalogues())
def test_a_translation_keeps_code_formulas_references_and_links(language, name):
    for message in translation.messages(translation.load(ROOT, language, name)):
        if translation.is_translated(message):
            english, translated = map(translation.fixed_parts, (message.id, message.string))
            assert translated == english, message.id


@pytest.mark.parametrize("name", [name for language, name in catalogues() if language == CHINESE])
def test_no_message_is_left_in_english_by_accident(name):
    for message in translation.messages(translation.load(ROOT, CHINESE, name)):
        if translation.is_translated(message):
            left = NAMES.sub("", translation.prose(message.id))
            if re.search(r"[A-Za-z]{2,}", left):
                assert CJK.search(translation.prose(message.string)), message.id


@pytest.mark.parametrize("name", [name for language, name in catalogues() if language == CHINESE])
def test_chinese_is_set_with_chinese_punctuation(name):
    for message in translation.messages(translation.load(ROOT, CHINESE, name)):
        if translation.is_translated(message):
            found = re.search(f"{CJK.pattern}[,;:?!]|[,;:?!]{CJK.pattern}", str(message.string))
            assert found is None, f"{found[0]!r} in {message.string}"


@pytest.mark.parametrize("name", [name for language, name in catalogues() if language == CHINESE])
def test_emphasis_beside_chinese_is_recognized(name):
    # CommonMark does not open or close ** between a Chinese character and punctuation.
    from markdown_it import MarkdownIt

    for message in translation.messages(translation.load(ROOT, CHINESE, name)):
        if translation.is_translated(message) and "\n" not in message.id:
            bare = [
                translation._CODE.sub("x", translation._MATH.sub("x", t))
                for t in message_texts(message)
            ]
            marks = [MarkdownIt().renderInline(text) for text in bare]
            for tag in ("<em>", "<strong>"):
                assert marks[0].count(tag) == marks[1].count(tag), message.string


def message_texts(message):
    return str(message.id), str(message.string)


# What a translation must keep


@pytest.mark.parametrize(
    ("kind", "english", "wrong"),
    [
        ("math", "the width $d_k$", "宽度 $d_v$"),
        ("math", "both $a$ and $a$", "两个 $a$"),
        ("code", "call `forward` on it", "调用 `前向`"),
        ("code", "``a `tick` b`` is code", "``a `tock` b`` 是代码"),
        ("roles", "see {ref}`sec-ch2-mask`", "见 {ref}`sec-ch2-leak`"),
        ("roles", "see {doc}`training <06_training>`", "见 {doc}`训练 <05_gpt>`"),
        ("roles", "{cite:p}`a2020b` says", "{cite:t}`a2020b` 说"),
        ("links", "[chapter 1](01_tokenizer.ipynb)", "[第 1 章](02.ipynb)"),
        ("placeholders", "{count} left", "还剩 {number} 处"),
        ("formula", "\na_1 \\text{ if } b\n", "\na_2 \\text{ 若 } b\n"),
    ],
)
def test_a_lost_or_changed_part_is_noticed(kind, english, wrong):
    kept, changed = translation.fixed_parts(english), translation.fixed_parts(wrong)
    assert {name for name in kept if kept[name] != changed[name]} == {kind}


def test_words_may_move_and_titles_of_references_may_be_translated():
    english = "Read {doc}`training <06_training>` and [chapter 1](a.ipynb) for $x$ and `y`."
    chinese = "`y` 与 $x$ 见[第 1 章](a.ipynb)和{doc}`训练 <06_training>`。"
    assert translation.fixed_parts(english) == translation.fixed_parts(chinese)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{doc}`01_tokenizer`", False),
        ("`no mask`", False),
        ("$x_i$, $y$", False),
        ("`tril`, ones", True),
        ("\na = b \\text{ if } c\n", True),
        ("\nd_\\text{in} = \\operatorname{softmax}(x)\n", False),
        ("[Solution](x.ipynb)", True),
    ],
)
def test_a_message_without_words_needs_no_translator(text, expected):
    assert translation.has_words(text) is expected


# When the English changes


def test_a_changed_message_becomes_fuzzy_and_is_not_shown():
    old = catalogue(("The mask hides later tokens.", "掩码遮住后面的词元。"))
    new = translation.merged(old, catalogue(("The mask hides all later tokens.", "")), CHINESE)
    (message,) = translation.messages(new)
    assert message.fuzzy and message.string == "掩码遮住后面的词元。"
    assert list(message.previous_id) == ["The mask hides later tokens."]
    assert not translation.is_translated(message)
    assert translation.dictionary(new) == {}


def test_a_fuzzy_message_is_the_same_when_its_file_is_read_and_merged_again(tmp_path):
    before = 'The mask hides the later tokens, "all" of them, ' + "and so on and on " * 20 + "end."
    template = catalogue((before.replace("later", "next"), ""))
    text = translation._text(translation.merged(catalogue((before, "掩码。")), template, CHINESE))
    path = translation.catalogue_path(tmp_path, CHINESE, "book/a")
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    again = translation.load(tmp_path, CHINESE, "book/a")
    assert [list(m.previous_id) for m in translation.messages(again)] == [[before]]
    assert translation._text(translation.merged(again, template, CHINESE)) == text


def test_the_fuzzy_mark_stays_until_a_translator_removes_it():
    template = catalogue(("The mask hides all later tokens.", ""))
    old = catalogue(("The mask hides later tokens.", "掩码遮住后面的词元。"))
    once = translation.merged(old, template, CHINESE)
    twice = translation.merged(once, template, CHINESE)
    assert translation._text(once) == translation._text(twice)
    (message,) = translation.messages(twice)
    message.flags.discard("fuzzy")
    (looked_at,) = translation.messages(translation.merged(twice, template, CHINESE))
    assert translation.is_translated(looked_at) and not looked_at.previous_id


def test_a_new_message_is_missing_and_one_that_is_gone_leaves():
    old = catalogue(("Scores are dot products.", "得分是点积。"))
    template = catalogue(("A wholly different paragraph about padding.", ""), ("`tril`", ""))
    new = translation.merged(old, template, CHINESE)
    progress = Progress.of(new)
    assert progress.missing == ("A wholly different paragraph about padding.",)
    assert progress.fuzzy == () and progress.total == 2
    assert translation.dictionary(new) == {"`tril`": "`tril`"}
    assert b"dot products" not in translation._text(new)


def test_a_catalogue_is_the_same_bytes_at_any_time_and_reads_back(tmp_path):
    made = catalogue(("One 'quoted' \\ word", "一个“词”"), ("\n\\text{if }\n", "\n\\text{若 }\n"))
    text = translation._text(made)
    assert b"Date" not in text and b"Translator" not in text
    path = translation.catalogue_path(tmp_path, CHINESE, "book/a")
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    again = translation.load(tmp_path, CHINESE, "book/a")
    assert translation._text(again) == text
    assert translation.dictionary(again) == translation.dictionary(made)


@pytest.mark.parametrize(("translated", "shown"), [(8, True), (7, False)])
def test_a_page_is_left_out_when_too_little_of_it_is_translated(tmp_path, translated, shown):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/a\n")
    path = translation.catalogue_path(tmp_path, CHINESE, "book/a")
    path.parent.mkdir(parents=True)
    entries = [(f"sentence {'x' * i} here", "句子" if i < translated else "") for i in range(10)]
    path.write_bytes(translation._text(catalogue(*entries)))
    assert translation.translated_pages(tmp_path, CHINESE) == ["book/a"]
    assert translation.published_pages(tmp_path, CHINESE) == (["book/a"] if shown else [])


def test_a_page_that_is_not_in_the_book_is_refused():
    with pytest.raises(ValueError, match=r"pages has 'book/none', which is not in _toc\.yml"):
        translation.templates(ROOT, ["book/none"])


# What extensions put beside the text


BESIDE = """\
<nav class="open-notebook" aria-label="Open this notebook">
<span>Open this notebook:</span> <a href="x.ipynb">Download (.ipynb)</a> <pre>easy</pre></nav>
<ul class="exercise-facts"><li><span class="visually-hidden">Difficulty: </span> easy</li>
<li>2 points</li></ul>
<details class="exercise-fold exercise-hint"><summary>Hint 1 of 3</summary>
<div><p>Think.</p></div></details>
<p class="collapsed admonition-title">Show code cell source</p>
<pre><span class="n">easy</span> 2 points Solution</pre>"""


def test_fixed_phrases_are_translated_beside_the_text_and_nowhere_else():
    known = translation.dictionary(translation.load(ROOT, CHINESE, INTERFACE))
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import course_languages
    finally:
        sys.path.pop(0)
    html = course_languages.translate_phrases(BESIDE, known)
    for english in (
        "Open this",
        "Download",
        "Difficulty",
        "> easy",
        "<li>2 points",
        "Hint",
        "Show",
    ):
        assert english not in html
    assert "提示 1/3" in html and "<li>2 分</li>" in html and 'aria-label="打开' in html
    assert '<div lang="en"><p>Think.</p></div>' in html
    assert html.endswith('<pre><span class="n">easy</span> 2 points Solution</pre>')


def test_every_fixed_phrase_is_one_that_the_book_shows():
    # A phrase that an extension words anew would stay English without a sign.
    files = [*(ROOT / "book" / "_ext").glob("*.py")]
    shown = " ".join(path.read_text(encoding="utf-8") for path in files)
    shown += (ROOT / "course_pkg" / "authoring" / "exercises.py").read_text(encoding="utf-8")
    shown = re.sub(r"""['"]\s*\n\s*f?['"]""", "", shown)  # a text on two lines
    others = {translation.LEFT, "Search this book...", "Click to show", "Click to hide"}
    for phrase in set(translation.PHRASES) - others:
        if not re.search(r"code cell", phrase):
            for part in re.split(r"\{\w+\}", phrase):
                assert part.strip() in shown, phrase


# A small book


FIGURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10">'
    '<rect width="9" height="9"/></svg>'
)
PAGES = {
    "first": [
        (
            "markdown",
            "# The first page\n\nA mask hides *later* tokens, as {doc}`second` and "
            "{ref}`sec-part` and {ref}`sec-other` say, with $x_i$ and `tril`.\n\n"
            ":::{admonition} Before you start\n:class: note\n\nYou need a matrix.\n\n"
            "| one | two words |\n|---|---|\n| `tril` | is allowed |\n:::\n\n"
            "(sec-part)=\n## A part of it\n\n"
            "$$\na = b \\text{ if } c\n$$ (eq-one)\n\nSee {eq}`eq-one`. This is new in English.",
        ),
        ("code", "print('one line of output')", "one line of output\n", {}),
        ("code", "hidden = 1", "", {"tags": ["hide-input"]}),
        (
            "code",
            "figure",
            FIGURE,
            {"mystnb": {"image": {"alt": "A black square."}, "figure": {"caption": "The square."}}},
        ),
    ],
    "second": [("markdown", "# The second page\n\n(sec-other)=\n## Another part\n\nBack.")],
}
CHINESE_OF = {
    "The first page": "第一页",
    "A mask hides *later* tokens, as {doc}`second` and {ref}`sec-part` and {ref}`sec-other` say, "
    "with $x_i$ and `tril`.": "掩码遮住 *后面的* 词元，见{doc}`second`、{ref}`sec-part` 和"
    "{ref}`sec-other`，其中 $x_i$ 与 `tril`。因果注意力。",
    "Before you start": "开始之前",
    "You need a matrix.": "你需要一个矩阵。",
    "one": "一",
    "two words": "两个词",
    "is allowed": "允许",
    "A part of it": "其中一节",
    "\na = b \\text{ if } c\n": "\na = b \\text{ 若 } c\n",
    "A black square.": "一个黑色方块。",
    "The square.": "方块。",
}
WORDS = {
    "The second page": "第二页",
    "A small book": "一本小书",
    "Chapters": "章节",
    translation.LEFT: "本页有 {count} 处尚未译出。",
    "Show code cell source": "显示代码",
}


def notebook(cells):
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    made.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    for number, cell in enumerate(cells):
        if cell[0] == "markdown":
            made.cells.append(nbformat.v4.new_markdown_cell(cell[1], id=f"c{number}"))
            continue
        _, source, output, metadata = cell
        outputs = []
        if output.startswith("<svg"):
            data = {"image/svg+xml": output, "text/plain": "<Figure>"}
            outputs = [nbformat.v4.new_output("display_data", data)]
        elif output:
            outputs = [nbformat.v4.new_output("stream", text=output)]
        code = nbformat.v4.new_code_cell(source, outputs=outputs, metadata=metadata)
        code.id, code.execution_count = f"c{number}", number
        made.cells.append(code)
    return made


def translate(root, name, known):
    path = translation.catalogue_path(root, CHINESE, name)
    made = translation.load(root, CHINESE, name)
    for message in translation.messages(made):
        message.string = known.get(message.id, message.string)
    path.write_bytes(translation._text(made))


def run(root, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "course_pkg.authoring", "--root", str(root), *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """A book of two pages, of which one is in Chinese, built by the book's own commands."""
    root = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / "book" / "_ext", root / "book" / "_ext")
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "references.bib").write_text("")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["title"] = "A small book"
    (root / "_config.yml").write_text(yaml.safe_dump(config))
    contents = {
        "format": "jb-book",
        "root": "book/first",
        "parts": [{"caption": "Chapters", "chapters": [{"file": "book/second"}]}],
    }
    (root / "_toc.yml").write_text(yaml.safe_dump(contents))
    for name, cells in PAGES.items():
        nbformat.write(notebook(cells), root / "book" / f"{name}.ipynb")
        text = "\n\n".join(cell[1] for cell in cells if cell[0] == "markdown")
        (root / "book" / f"{name}.md").write_text(text)
    path = translation.catalogue_path(root, CHINESE, "book/first")
    path.parent.mkdir(parents=True)
    path.write_text('msgid ""\nmsgstr ""\n')
    made = run(root, "gettext")
    assert made.returncode == 0, made.stderr
    translate(root, "book/first", CHINESE_OF)
    translate(root, INTERFACE, WORDS)
    built = run(root, "book")
    assert built.returncode == 0, built.stdout + built.stderr
    return root


@pytest.fixture(scope="module")
def pages(small_book):
    """The built pages by their addresses."""
    html = small_book / "_build" / "html"
    return {
        path.relative_to(html).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in html.rglob("*.html")
        if "_static" not in path.parts
    }


def test_only_the_translated_page_and_its_search_are_written(small_book, pages):
    assert {name for name in pages if name.startswith("zh/")} == {
        "zh/index.html",
        "zh/search.html",
        "zh/book/first.html",
    }
    files = [p for p in (small_book / "_build/html/zh").rglob("*") if p.is_file()]
    # Scripts, styles, fonts, images, notebooks: those of the English book are used.
    assert not [p for p in files if p.suffix not in {".html", ".js"}]
    assert sum(p.stat().st_size for p in files) < 400_000


def test_a_page_says_in_which_language_it_is(pages):
    assert pages["book/first.html"].html["lang"] == "en"
    assert pages["zh/book/first.html"].html["lang"] == "zh-CN"
    assert pages["zh/search.html"].html["lang"] == "zh-CN"


def test_the_switch_leads_to_the_same_page_in_the_other_language(pages):
    for here, there, tag, name in (
        ("book/first.html", "../zh/book/first.html", "zh-CN", "中文"),
        ("zh/book/first.html", "../../book/first.html", "en", "English"),
        ("search.html", "zh/search.html", "zh-CN", "中文"),
        ("zh/search.html", "../search.html", "en", "English"),
    ):
        (switch,) = pages[here].select("nav.course-languages")
        assert switch["aria-label"]
        (link,) = switch.select("a")
        assert (link["href"], link["hreflang"], link["lang"]) == (there, tag, tag), here
        assert link.get_text(strip=True) == name


def test_machines_find_the_other_language_too(pages):
    links = {
        link["hreflang"]: link["href"]
        for link in pages["zh/book/first.html"].select('link[rel="alternate"]')
    }
    assert links == {
        "en": "../../book/first.html",
        "zh-CN": "first.html",
        "x-default": "../../book/first.html",
    }


def test_a_page_without_a_translation_has_no_switch(pages):
    assert not pages["book/second.html"].select("nav.course-languages, link[rel=alternate]")


def test_everything_of_the_page_is_translated(pages):
    page = pages["zh/book/first.html"]
    article = page.select_one("article.bd-article")
    text = article.get_text()
    for chinese in CHINESE_OF.values():
        plain = chinese.strip()
        if not re.search(r"[{*$`\\]", plain) and plain != "一个黑色方块。":
            assert plain in text, plain
    assert "若" in article.select_one("div.math").get_text() and "(1)" in text
    assert page.select_one(".cell_output img")["alt"] == "一个黑色方块。"
    assert "第一页" in page.title.get_text() and "一本小书" in page.title.get_text()
    assert "显示代码" in text and "Show code" not in text


def test_code_and_outputs_are_those_of_the_english_page(small_book, pages):
    html = small_book / "_build" / "html"
    both = html / "book/first.html", html / "zh/book/first.html"
    assert translation.difference(*both) == ""
    shown = [b.get_text() for b in pages["zh/book/first.html"].select(".cell pre")]
    assert shown == [
        "print('one line of output')\n",
        "one line of output\n",
        "hidden = 1\n",
        "figure\n",
    ]


def test_changed_outputs_would_be_noticed(small_book, tmp_path):
    html = small_book / "_build" / "html" / "zh" / "book" / "first.html"
    changed = tmp_path / "changed.html"
    changed.write_text(html.read_text("utf-8").replace("one line of output", "一行输出"), "utf-8")
    assert "block 1" in translation.difference(html, changed)
    changed.write_text(html.read_text("utf-8").replace("cell_output", "other"), "utf-8")
    assert "3 blocks" in translation.difference(html, changed)


def test_what_is_not_translated_is_in_english_and_the_page_says_so(pages):
    article = pages["zh/book/first.html"].select_one("article.bd-article")
    (left,) = [p for p in article.select("p") if "This is new in English." in p.get_text()]
    assert left["lang"] == "en"
    (note,) = article.select(".course-untranslated")
    assert "本页有 1 处尚未译出。" in note.get_text()
    assert note.find_previous("h1") is not None and note.find_next("h2") is not None
    assert {tag.name for tag in article.select("[lang=en]")} == {"p"}


def test_links_to_other_pages_lead_to_the_english_book_and_say_so(pages):
    page = pages["zh/book/first.html"]
    second = [a for a in page.select("a") if a.get("href", "").startswith("../../book/second.html")]
    assert {a["hreflang"] for a in second} == {"en"}
    assert any("第二页" in a.get_text() for a in page.select(".bd-sidebar-primary a"))
    assert [
        a for a in second if a["href"].endswith("#sec-other") and "Another part" in a.get_text()
    ]
    inside = [a for a in page.select("a") if a.get("href", "").startswith("#")]
    assert inside and not any(a.has_attr("hreflang") for a in inside)
    assert "章节" in page.select_one(".bd-sidebar-primary").get_text()


def test_sections_have_the_same_ids_in_both_languages(pages):
    # The switch keeps the place in the page.
    ids = [
        [s["id"] for s in pages[p].select("section")]
        for p in ("book/first.html", "zh/book/first.html")
    ]
    assert ids[0] == ids[1] and "a-part-of-it" in ids[0]


def test_every_link_and_file_of_the_edition_is_there(small_book, pages):
    html = small_book / "_build" / "html"
    for name, page in pages.items():
        for tag in page.select("[href], [src]"):
            link = tag.get("href", tag.get("src"))
            path, _, fragment = unescape(link).partition("#")
            path = unquote(path.partition("?")[0])
            if ":" in path or not name.startswith("zh/"):
                continue
            target = (html / name).parent / path if path else html / name
            assert target.exists(), f"{name}: {link}"
            if fragment and target.suffix == ".html":
                goal = pages[target.resolve().relative_to(html.resolve()).as_posix()]
                assert goal.find(id=fragment), f"{name}: {link}"


def test_the_search_index_holds_pairs_of_characters(small_book):
    text = (small_book / "_build/html/zh/searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    assert {"因果", "果注", "注意", "意力", "码", "tril"} <= set(index["terms"])
    assert index["docnames"] == ["book/first"]


def test_a_changed_page_fails_the_check_with_a_word_to_its_author(small_book, tmp_path):
    root = tmp_path / "changed"
    shutil.copytree(small_book, root, ignore=shutil.ignore_patterns("_build"))
    path = root / "book" / "first.ipynb"
    path.write_text(
        path.read_text("utf-8").replace("You need a matrix", "You need one matrix"), "utf-8"
    )
    checked = run(root, "gettext", "--check")
    assert checked.returncode == 1
    assert "Run `make gettext`" in checked.stderr and "need not know the language" in checked.stderr
    assert run(root, "gettext").returncode == 0
    known = translation.load(root, CHINESE, "book/first")
    assert "You need one matrix." in Progress.of(known).fuzzy
    assert run(root, "gettext", "--check").returncode == 0


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_the_switch_by_keyboard_keeps_the_place(small_book):
    with browser.chromium() as chromium:
        opened = browser.Page(chromium, small_book / "_build/html/book/first.html")
        page = opened.page
        page.evaluate("location.hash = '#a-part-of-it'")
        page.locator(".course-languages a").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/zh/book/first.html#a-part-of-it")
        assert page.locator("section#a-part-of-it h2").inner_text().startswith("其中一节")
        page.locator(".course-languages a").click()
        page.wait_for_function("document.documentElement.lang === 'en'")
        assert page.url.endswith("html/book/first.html#a-part-of-it")


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
@pytest.mark.parametrize(
    ("query", "found"), [("因果注意力", 1), ("码", 1), ("tril 词元", 1), ("果因", 0), ("训练", 0)]
)
def test_a_reader_finds_chinese_words(small_book, query, found):
    with browser.chromium() as chromium:
        page = browser.Page(chromium, small_book / "_build/html/zh/search.html").page
        page.goto(f"{page.url}?q={query}")
        page.wait_for_function(
            "document.querySelector('#search-results p.search-summary')?.innerText.match(/[0-9。]/)"
        )
        page.wait_for_timeout(500)
        assert page.locator("#search-results li").count() == found


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_chinese_is_never_slanted_and_the_switch_fits_a_phone(small_book):
    with browser.chromium() as chromium:
        options = {"viewport": {"width": 390, "height": 800}}
        page = browser.Page(chromium, small_book / "_build/html/zh/book/first.html", **options).page
        style = "e => [getComputedStyle(e).fontStyle, getComputedStyle(e).fontWeight]"
        assert page.locator("article em").first.evaluate(style) == ["normal", "600"]
        box = page.locator(".course-languages a").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] >= 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
