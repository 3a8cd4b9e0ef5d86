"""Symbols, names and index entries of the pages: known, and said where a reader points."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import pytest

pytest.importorskip("sphinx_book_theme")

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import course_hover as hover  # noqa: E402

BOOK = ROOT / "book"
PAGES = [page for page in sorted(BOOK.glob("*.md")) if page.stem != "notation"]
CHAPTERS = [page for page in PAGES if page.stem[:2].isdigit()]
NOTATION = (BOOK / "notation.md").read_text(encoding="utf-8")
API = (BOOK / "api.md").read_text(encoding="utf-8")
TABLE = hover.read_table(NOTATION)


def name(path):
    return path.stem


def comments(page, kind):
    for piece in hover.pieces(page.read_text(encoding="utf-8")):
        match = hover._COMMENT.fullmatch(piece.text) if piece.kind == "comment" else None
        if match and match[1] == kind:
            yield piece.line, match[2]


def meanings(tex, table=TABLE, *overrides):
    """What the symbols of a formula mean: the piece of TeX and the name in the code."""
    scopes = hover.Scopes(table)
    for override in overrides:
        scopes.heading(2)
        scopes.define(hover.read_symbols(override))
    marks, unknown = hover.read_formula(tex, scopes)
    return {tex[m.start : m.end]: m.symbol.code for m in marks}, [u.tex for u in unknown]


# Formulas


def test_the_longest_symbol_wins():
    assert meanings(r"D_h = D / H") == (
        {"D_h": "head_dim", "D": "d_model", "H": "num_heads"},
        [],
    )
    known, unknown = meanings(r"\sqrt{d_\text{out}} + d_{\text{in}} T_{\max} T")
    assert unknown == []
    assert known[r"d_\text{out}"] == "d_out"
    assert known[r"d_{\text{in}}"] == "d_in"
    assert known[r"T_{\max}"] == "context_length"
    assert known["T"].startswith("num_tokens")


def test_an_index_is_part_of_a_symbol_and_a_power_is_not():
    assert meanings("12 D^2")[0] == {"D": "d_model"}
    assert meanings("W_q^{(h)} x_j")[0] == {
        "W_q^{(h)}": "W_query",
        "h": "head",
        "x_j": "x[:, j]",
    }
    # A letter in the table without an index keeps its meaning beside one, which has its own.
    assert meanings("E_{i_t}")[0] == {"E": "token_embedding", "i_t": "ids[:, t]"}


def test_words_and_what_sets_a_formula_are_no_symbols():
    tex = r"\begin{cases} 1/i & \text{if } j \le i\\ 0 & \text{if } j > i \end{cases}"
    assert meanings(tex) == ({"i": "i", "j": "j"}, [])
    tex = r"\underbrace{V D}_{\text{tokens}} \left(\frac{1}{\lVert g \rVert}\right)\!"
    assert meanings(tex)[1] == []


def test_what_is_not_in_the_table_is_reported():
    assert meanings(r"\zeta + D_{\text{model}} + \operatorname{Sinc}(x)")[1] == [
        r"\zeta",
        r"D_{\text{model}}",
        r"\operatorname{Sinc}",
    ]
    tex = r"\text{query}_z(x) \text{ and } Z_{ij}"
    assert meanings(tex)[1] == [
        r"\text{query}_{z}",
        "z",
        "Z_{ij}",
    ]


def test_a_section_may_mean_something_else():
    text = (
        "# A page\n\nHere $V$ and $Z$.\n\n## One\n\n<!-- symbols:\n$V$ `values`: the values\n"
        "$Z$: a letter\n-->\n\n### Inside\n\n$$\nV +\nZ + Y\n$$\n\n```\n$Y$\n```\n\n"
        "## Two\n\n`$Z$` $Z$\n"
    )
    assert hover.unknown_symbols(text, TABLE) == [(3, "Z"), (16, "Y"), (25, "Z")]
    assert meanings("V", TABLE, "$V$ `values`: the values")[0] == {"V": "values"}
    # The letter alone does not hide an indexed one that the table knows.
    assert meanings("W_q + W", TABLE, "$W$: any matrix")[0] == {"W_q": "W_query", "W": ""}


@pytest.mark.parametrize(
    "text",
    ["V: values", "$V$", "$V$ `values` the values", "$V + W$: a sum"],
)
def test_a_comment_that_is_not_understood_is_an_error(text):
    with pytest.raises(ValueError, match=r"not of the form|must be a letter"):
        hover.read_symbols(text)


def test_a_table_that_says_two_things_of_a_symbol_is_an_error():
    with pytest.raises(ValueError, match="V stands in the table of symbols twice"):
        hover.read_table("| $V$ | `a` | one |\n| $V$ | `b` | two |\n")
    with pytest.raises(ValueError, match="2 symbols have 3 names"):
        hover.read_table("| $V, W$ | `a`, `b`, `c` | three |\n")


def test_a_symbol_that_is_one_argument_stays_one():
    marks, _ = hover.read_formula(r"\sqrt D + x_t^2 + \tfrac{B}H", hover.Scopes(TABLE))
    text = re.sub(r"sym-\w+", "s", hover.with_classes(r"\sqrt D + x_t^2 + \tfrac{B}H", marks))
    assert text == r"\sqrt {\class{s}{D}} + \class{s}{x_t^2} + \tfrac{\class{s}{B}}\class{s}{H}"


def test_a_meaning_is_shown_in_html():
    symbol = next(s for s in TABLE if s.base == "D" and s.index == "h")
    assert symbol.shown() == [
        "<i>D</i><sub><i>h</i></sub>",
        "head_dim",
        "features of one head, <i>D</i> / <i>H</i>",
    ]
    assert hover.as_html(r"\hat{x}_i \le \mathcal{L}") == ("<i>x\u0302</i><sub><i>i</i></sub> ≤ ℒ")
    # What the table says about another meaning is no part of this one.
    vocabulary = next(s for s in TABLE if s.base == "V")
    assert "values" in vocabulary.meaning
    assert vocabulary.shown()[2] == "how many token ids there are"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_symbol_of_a_page_has_a_meaning(page):
    """Add the symbol to book/notation.md, or a comment to its section (see CONTRIBUTING.md)."""
    unknown = [
        f"{page.name}, line {line}: {tex} is neither in book/notation.md nor in a comment"
        for line, tex in hover.unknown_symbols(page.read_text(encoding="utf-8"), TABLE)
    ]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_comment_about_symbols_is_needed(page):
    """A meaning that no formula of its section uses was forgotten there, or is misspelt."""
    found = list(hover.pieces(page.read_text(encoding="utf-8")))
    level, forgotten = 0, []
    for place, piece in enumerate(found):
        match = hover._COMMENT.fullmatch(piece.text) if piece.kind == "comment" else None
        if piece.kind == "heading":
            level = len(piece.text)
        if not match or match[1] != "symbols":
            continue
        given, used = hover.read_symbols(match[2]), set()
        for later in found[place + 1 :]:
            if later.kind == "heading" and len(later.text) <= level:
                break
            if later.kind == "formula":
                marks, _ = hover.read_formula(later.text, hover.Scopes(given))
                for symbol in given:
                    if any(
                        mark.symbol.base == symbol.base
                        and (mark.symbol.index == symbol.index or symbol.any_index)
                        for mark in marks
                    ):
                        used.add(symbol)
        forgotten += [f"{page.name}, line {piece.line}: {s.tex}" for s in given if s not in used]
    assert forgotten == []


# Names of the package


def documented():
    """Full and last names that the API page documents: its modules' public names and members."""
    import importlib
    import inspect

    found = {}
    for module in re.findall(r"automodule:: (course_pkg[\w.]*)", API):
        loaded = importlib.import_module(module)
        for key, value in vars(loaded).items():
            if key.startswith("_") or getattr(value, "__module__", None) != module:
                continue
            found[key] = module
            if inspect.isclass(value):
                found |= {f"{key}.{member}": module for member in vars(value) if member[0] != "_"}
    return found


@pytest.mark.parametrize("page", CHAPTERS, ids=name)
def test_a_name_of_the_package_in_the_text_exists(page):
    """A full name must be there, and a public name must be on the API page, which it links to."""
    import course_pkg

    api, missing = documented(), []
    for piece in hover.pieces(page.read_text(encoding="utf-8")):
        if piece.kind != "code":
            continue
        text = piece.text.removesuffix("()")
        if re.fullmatch(r"course_pkg(\.\w+)+", text):
            rest = text.removeprefix("course_pkg.")
            modules = {f"{module}.{short}" for short, module in api.items()}
            known = (
                rest in api
                or text in modules
                or (ROOT / text.replace(".", "/")).with_suffix(".py").exists()
                or (ROOT / text.replace(".", "/")).is_dir()
            )
        elif re.fullmatch(r"[A-Z]\w*\.\w+", text) and text.split(".")[0] in course_pkg.__all__:
            known = text in api or "__" in text
        elif text in course_pkg.__all__ and callable(getattr(course_pkg, text)):
            known = text in api
        else:
            continue
        if not known:
            missing.append(f"{page.name}, line {piece.line}: {text} is not on the API page")
    assert missing == []


# The index and the bibliography


def test_the_chapters_have_index_entries():
    entries = [
        e for page in PAGES for _, text in comments(page, "index") for e in hover.read_index(text)
    ]
    assert len(set(entries)) >= 60
    assert all(re.search(r"\w", entry) and len(entry) <= 60 for entry in entries)
    for page in CHAPTERS:
        assert len(list(comments(page, "index"))) >= 5, page.name
    for wanted in ["causal mask", "residual stream", "AdamW", "scaled dot-product attention"]:
        assert any(entry.startswith(wanted) for entry in entries), wanted


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_comments_are_spelt_as_they_are_read(page):
    """<!-- Index: ... --> or <!-- symbol: ... --> would be ignored."""
    for piece in hover.pieces(page.read_text(encoding="utf-8")):
        if piece.kind == "comment":
            head = re.match(r"<!--\s*([\w-]+)\s*(:|-->)", piece.text)
            assert head and head[1] in ("symbols", "index", "exercises"), (piece.line, piece.text)


def test_displayed_formulas_are_numbered():
    for page in CHAPTERS:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^\$\$\n.*?^\$\$([^\n]*)$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, found.start()) + 1
            assert re.fullmatch(r" \(eq-[\w-]+\)", found[1]), f"{page.name}, line {line}"


# A small book of the real chapters, without their outputs

CONF = f"""
import sys
sys.path.insert(0, {str(BOOK / "_ext")!r})
import course_book
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex",
              "course_hover", "course_formulas"]
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
bibtex_bibfiles = ["book/references.bib"]
bibtex_reference_style = "author_year"
autodoc_typehints = "signature"
html_theme = "sphinx_book_theme"
html_context = {{"default_mode": "auto"}}
html_static_path = ["book/_static"]
html_math_renderer = "mathml"
html_css_files = ["course.css"]
html_js_files = ["course.js"]
numfig = True
suppress_warnings = ["*"]
def setup(app):
    app.connect("autodoc-process-signature", course_book.shorten_types)
"""
NAMES = """# Names

Inline: `MultiHeadAttention`, `GPT.from_pretrained`, `from_pretrained`, `course_pkg.GPT`, `train()`,
`MultiHeadAttention(8, 8)`, `multiheadattention`, [`GPT`](notation.md).

```python
from course_pkg import (
    MultiHeadAttention,
    generate,
)
layer = MultiHeadAttention(8, 8, 4, 0.0, 2)
model = GPT.preset("x").GELU(generate)
generate = 3
check(generate)
```

```python
class MultiHeadAttention:
    pass
MultiHeadAttention()
GELU()
```
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source = tmp_path_factory.mktemp("book")
    (source / "book").mkdir()
    static = shutil.ignore_patterns("*.webp", "widgets")
    shutil.copytree(BOOK / "_static", source / "book" / "_static", ignore=static)
    pages = ["notation", "api", "bibliography", "pytorch", *(page.stem for page in CHAPTERS)]
    for page in pages:
        text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
        text = text.replace(".ipynb)", ".md)")
        (source / "book" / f"{page}.md").write_text(text, encoding="utf-8")
    shutil.copy(BOOK / "references.bib", source / "book")
    (source / "book" / "names.md").write_text(NAMES, encoding="utf-8")
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    listed = "\n".join(f"book/{page}" for page in [*sorted(pages), "names"])
    toc = f"# Book\n\n```{{toctree}}\n:numbered:\n\n{listed}\n```\n"
    (source / "index.md").write_text(toc, encoding="utf-8")
    out = source / "built"
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-Q", "-b", "html", str(source), str(out)],
        check=True,
        cwd=ROOT,
    )
    return out


def soup(path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def shared(built):
    text = (built / "_static" / hover.DATA).read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.courseHover=").removesuffix(";\n"))


def test_what_the_pages_share_is_light_and_comes_from_notation_and_package(built):
    assert (built / "_static" / hover.DATA).stat().st_size < 40_000
    data = shared(built)
    said = {symbol: (code, text) for symbol, code, text in data["symbols"].values()}
    assert said["<i>D</i><sub><i>h</i></sub>"][0] == "head_dim"
    kind, signature, line = data["names"]["course_pkg.attention"]["MultiHeadAttention"]
    assert kind == "class"
    assert re.match(r"\(d_in: int, d_out: int, context_length: int, dropout: float", signature)
    from course_pkg import MultiHeadAttention

    assert line.split()[0] == MultiHeadAttention.__doc__.split()[0]
    anchors = {tag["id"] for tag in soup(built / "book" / "api.html").find_all(id=True)}
    listed = {f"{module}.{short}" for module, names in data["names"].items() for short in names}
    assert len(listed) > 80
    assert listed <= anchors


def test_a_page_that_means_something_else_says_so(built):
    data = shared(built)["symbols"]

    def said(page, label, tex):
        block = soup(built / "book" / f"{page}.html").find(id=f"equation-{label}")
        marked = block.find_all(class_=re.compile("sym-"))
        [part] = {part["class"][0] for part in marked if part.get_text() == tex}
        key = part.removeprefix("sym-")
        return data[key][1]

    assert said("02_causal_attention", "eq-ch2-attention", "V") == "values"
    assert said("05_gpt", "eq-ch5-first-loss", "V") == "vocab_size"
    assert said("06_training", "eq-ch6-adamw", "mt") == "exp_avg"
    assert said("06_training", "eq-ch6-schedule", "w") == "warmup_steps"


def test_code_carries_marks_of_the_packages_names_only(built):
    code = soup(built / "book" / "names.html").select_one(".highlight pre")
    assert "layer = MultiHeadAttention(8" in code.get_text()
    marked = {mark.get_text() for mark in code.select(".n")}
    assert {"MultiHeadAttention", "generate", "GPT", "GELU"} <= marked
    assert not marked & {"layer", "model"}


def test_inline_code_that_is_a_name_is_a_link(built):
    page = soup(built / "book" / "names.html")
    links = {a.get_text(): a["href"] for a in page.select("p a.course-name")}
    assert links == {
        "MultiHeadAttention": "api.html#course_pkg.attention.MultiHeadAttention",
        "GPT.from_pretrained": "api.html#course_pkg.gpt.GPT.from_pretrained",
        "from_pretrained": "api.html#course_pkg.gpt.GPT.from_pretrained",
        "course_pkg.GPT": "api.html#course_pkg.gpt.GPT",
    }


def test_the_search_index_holds_formulas_without_their_classes(built):
    assert "sym-" not in (built / "searchindex.js").read_text(encoding="utf-8")


def test_the_index_leads_to_the_chapters(built):
    links = {a.get_text(): a["href"] for a in soup(built / "genindex.html").select("table a")}
    page, _, anchor = links["residual stream"].partition("#")
    assert page == "book/04_transformer.html"
    assert soup(built / page).find(id=anchor) is not None
    assert any("pytorch.html" in href for href in links.values())


def test_the_bibliography_says_where_each_work_is_cited(built):
    page = soup(built / "book" / "bibliography.html")
    entries = page.select("div.citation")
    assert len(entries) > 20
    targets, said = {}, {}
    for entry in entries:
        links = entry.select("p.cited-in a")
        assert links, entry.get_text()
        for link in links:
            path, _, anchor = link["href"].partition("#")
            if path not in targets:
                targets[path] = soup(built / "book" / path)
            place = targets[path].find(id=anchor)
            assert place is not None, link["href"]
            assert place.find("a", href=re.compile(rf"bibliography.html#{entry['id']}$"))
        said[entry.p.get_text()[:40]] = [link.get_text() for link in links]
    adam = next(texts for entry, texts in said.items() if entry.startswith("Diederik"))
    assert all(re.fullmatch(r"\d+\.\d+(\.\d+)?", text) for text in adam)
    assert all(len(texts) == len(set(texts)) for texts in said.values())


# In a browser

NEEDS_BROWSER = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")
BOX = "#course-hover"


@pytest.fixture(scope="module")
def chromium():
    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium() as opened:
        yield opened


def opened(chromium, path, **options):
    """A page whose formulas are set. The theme talks to the console: that is left out."""
    page = browser.Page(chromium, path, **options)
    if path.stem not in ("search", "names"):
        page.page.wait_for_selector("math [class*=sym-]", state="attached")
    return page


def complaints(page):
    return [text for text in page.complaints if not re.match(r"\[(PST|togglebutton)\]", text)]


def symbol(page, equation, number=0):
    return page.locator(f"#equation-{equation} math [class*=sym-]").nth(number)


def said(page):
    page.locator(BOX).wait_for(state="visible")
    return re.sub(r"\s+", " ", page.locator(BOX).inner_text()).strip()


@NEEDS_BROWSER
def test_pointing_at_a_symbol_says_what_it_is(chromium, built):
    opening = opened(chromium, built / "book" / "03_multi_head_attention.html")
    page = opening.page
    where = page.locator("math msqrt [class*=sym-]").first
    where.hover()
    assert said(page) == "Dh: head_dim, features of one head, D / H"
    formula = where.locator("xpath=ancestor::*[contains(@class, 'math') or @class='formula'][1]")
    assert formula.get_attribute("aria-describedby") == "course-hover"
    assert page.locator(BOX).get_attribute("role") == "tooltip"
    # The box can be reached and stays; away from both it goes.
    page.locator(BOX).hover()
    page.wait_for_timeout(400)
    assert page.locator(BOX).is_visible()
    page.mouse.move(2, 2)
    page.locator(BOX).wait_for(state="hidden")
    assert formula.get_attribute("aria-describedby") is None
    where.hover()
    said(page)
    page.keyboard.press("Escape")
    assert not page.locator(BOX).is_visible()
    assert complaints(opening) == []


@NEEDS_BROWSER
def test_the_keyboard_lists_a_formulas_symbols_and_goes_through_them(chromium, built):
    opening = opened(chromium, built / "book" / "02_causal_attention.html")
    page = opening.page
    formula = page.locator("#equation-eq-ch2-qkv div.formula")
    page.keyboard.press("Tab")
    formula.focus()
    everything = said(page)
    for line in ("Wq: W_query", "Wk: W_key", "Wv: W_value", "qi: queries", "xi: x[i], the vector"):
        assert line in everything
    assert formula.get_attribute("aria-describedby") == "course-hover"
    page.keyboard.press("ArrowRight")
    assert said(page).startswith("qi: queries[:, i]")
    page.keyboard.press("ArrowRight")
    assert said(page).startswith("Wq: W_query")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert said(page) == everything
    page.keyboard.press("Escape")
    assert not page.locator(BOX).is_visible()
    assert formula.get_attribute("aria-describedby") is None
    assert page.evaluate("document.activeElement.className") == "formula"
    page.keyboard.press("Tab")
    assert "Wq" not in page.locator(BOX).inner_text() or not page.locator(BOX).is_visible()
    assert complaints(opening) == []


@NEEDS_BROWSER
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_a_tap_says_it_and_nothing_leaves_the_page(chromium, built, scheme):
    opening = opened(
        chromium,
        built / "book" / "06_training.html",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
        color_scheme=scheme,
    )
    page = opening.page
    symbol(page, "eq-ch6-adamw").tap()
    assert said(page) == "θ: parameter, one of the weights"
    box = page.locator(BOX).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    colours = page.evaluate(
        "box => { const s = getComputedStyle(document.querySelector(box));"
        " return [s.color, s.backgroundColor]"
        ".map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number)) }",
        BOX,
    )
    assert contrast(*colours) >= 4.5
    symbol(page, "eq-ch6-adamw").tap()  # again: it goes
    page.locator(BOX).wait_for(state="hidden")
    # The first tap on a name says what it is, the second follows the link.
    link = page.locator("p a.course-name").first
    link.tap()
    assert "tap again for its page" in said(page)
    assert page.url.endswith("06_training.html")
    link.tap()
    page.wait_for_url("**/api.html#*")
    assert complaints(opening) == []


def contrast(one, two):
    def light(colour):
        parts = [c / 255 for c in colour]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@NEEDS_BROWSER
def test_a_name_in_text_and_code_says_its_signature(chromium, built):
    opening = opened(chromium, built / "book" / "names.html")
    page = opening.page
    page.locator("p a.course-name").first.hover()
    text = said(page)
    assert text.startswith("class MultiHeadAttention(d_in: int, d_out: int, context_length: int")
    assert "in course_pkg.attention" in text
    found = [
        (link.inner_text(), link.get_attribute("href").rpartition("#")[2])
        for link in page.locator(".highlight a.course-name").all()
    ]
    # Not: a variable of the same name, a keyword, a method of something else, the page's own class.
    assert found == [
        ("MultiHeadAttention", "course_pkg.attention.MultiHeadAttention"),
        ("generate", "course_pkg.generation.generate"),
        ("MultiHeadAttention", "course_pkg.attention.MultiHeadAttention"),
        ("GPT", "course_pkg.gpt.GPT"),
        ("check", "course_pkg.checks.check"),
        ("GELU", "course_pkg.transformer.GELU"),
    ]
    assert (
        page.locator(".highlight").first.inner_text().startswith("from course_pkg import (\n    Mu")
    )
    page.mouse.move(2, 2)
    page.locator(BOX).wait_for(state="hidden")
    page.locator(".highlight a.course-name").first.hover()
    assert "MultiHeadAttention(" in said(page)
    page.locator(".highlight a.course-name").first.click()
    page.wait_for_url("**/api.html#course_pkg.attention.MultiHeadAttention")
    assert complaints(opening) == []


MEASURE = """
(formulas) => {
  const place = document.querySelector("article").appendChild(document.createElement("div"));
  place.innerHTML = formulas.map((formula) => `<p>${formula}</p>`).join("");
  return [...place.querySelectorAll("math")].map((formula) => {
    const box = formula.getBoundingClientRect();
    return [box.width, box.height].map((x) => Math.round(x * 10) / 10);
  });
}
"""


@NEEDS_BROWSER
@pytest.mark.parametrize("page", ["02_causal_attention", "04_transformer", "05_gpt", "06_training"])
def test_a_formula_is_set_as_without_its_classes(chromium, built, page):
    """The classes move nothing: neither their style does, nor the groups that carry them."""
    import course_formulas

    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    written = [piece.text for piece in hover.pieces(text) if piece.kind == "formula"]
    scopes = hover.Scopes(TABLE)
    marked = [hover.with_classes(tex, hover.read_formula(tex, scopes)[0]) for tex in written]
    assert sum("class{sym-" in tex for tex in marked) > 20
    opening = opened(chromium, built / "book" / f"{page}.html")
    for display in (False, True):
        one, two = (
            opening.page.evaluate(MEASURE, [course_formulas.mathml(tex, display) for tex in both])
            for both in (marked, written)
        )
        assert len(one) == len(two) == len(written)
        assert [tex for tex, a, b in zip(written, one, two, strict=True) if a != b] == []


@NEEDS_BROWSER
def test_the_search_finds_names_of_the_code(chromium, built):
    opening = opened(chromium, built / "search.html")
    page = opening.page
    address = page.url

    def results(query):
        page.goto(f"{address}?q={query}")
        page.wait_for_function(
            "document.querySelector('.search-summary')?.innerText.includes('found')"
        )
        return page.evaluate(
            "[...document.querySelectorAll('#search-results li a')]"
            ".map(a => a.getAttribute('href'))"
        )

    pages = {
        "multiheadattention": "book/03_multi_head_attention.html",
        "MultiHeadAttention": "book/api.html#course_pkg.attention.MultiHeadAttention",
        "d_model": "book/api.html#course_pkg.config.GPTConfig.d_model",
        "clip_grad": "book/06_training.html",
        "num_heads": "book/03_multi_head_attention.html",
        "TokenWindows": "book/api.html#course_pkg.data.TokenWindows",
        "softmax": "book/02_causal_attention.html",
        "GPT.from_pretrained": "book/api.html#course_pkg.gpt.GPT.from_pretrained",
    }
    for query, wanted in pages.items():
        assert any(href.split("?")[0] == wanted for href in results(query)), query
    every = page.evaluate(
        "names => names.filter(name => !Search._performSearch(...Search._parseQuery(name))"
        ".some(([page]) => page.includes('book/api')))",
        [short for names in shared(built)["names"].values() for short in names],
    )
    assert every == []
    assert complaints(opening) == []
