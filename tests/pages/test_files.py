"""Every page of the built book as a file: ids, links, markup, and what its sources would load."""

import re
from collections import Counter

import built
import pytest
import yaml

ROOT = built.Path(__file__).parents[2]
# A picture of a screen has 1,350 pixels in a row, so that its letters can be read.
FIGURE_BYTES = {".svg": 60_000, ".webp": 60_000}
# Names of XML vocabularies look like addresses, and nobody loads them.
NAMESPACES = {"www.w3.org"}
# Addresses in messages of the theme's scripts for people who write pages.
TOLD = {
    "bootstrap.js": {"popper.js.org"},
    "pydata-sphinx-theme.js": {"pydata-sphinx-theme.readthedocs.io"},
    "translations.js": {"www.sphinx-doc.org"},  # a link in a sentence
}
ADDRESS = re.compile(r"(?:https?:)?//([\w-]+(?:\.[\w-]+)+)", re.ASCII)


# The reader of pages itself


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("<div><p>a</div></p>", "</p> closes nothing"),
        ("<div><span></div>", "</div> closes <span>"),
        ("<div>", "<div> is not closed"),
        ("<p>a<div>b</div></p>", "</p> closes nothing"),
        ('<p id="a" id="b">', "attribute id twice"),
        ('<a href="x"><button>b</button></a>', "<button> inside a link"),
        ("<br></br>", "has no end"),
    ],
)
def test_a_mistake_in_the_markup_is_found(text, mistake):
    assert any(mistake in found for found in built.Reader(text).mistakes)


def test_what_html_allows_is_no_mistake():
    text = "<ul><li>a<li>b</ul><p>c<p>d<table><tr><td>e<td>f</table><br><img src=x><svg><g/></svg>"
    assert built.Reader(text).mistakes == []


def test_no_sign_behind_a_formula_can_begin_a_line():
    parted = re.compile(r"</math></span>[.,;:)?]")
    pages = {page: (built.HTML / page).read_text(encoding="utf-8") for page in built.pages()}
    assert [page for page, text in pages.items() if parted.search(text)] == []


def test_a_broken_link_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(built, "HTML", tmp_path)
    built.read.cache_clear()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.html").write_text(
        '<p id="here"><a href="#here"></a><a href="../y.html#there"></a>'
        '<a href="#gone"></a><img src="z.png"><a href="https://example.org/#no"></a>'
    )
    (tmp_path / "y.html").write_text('<p id="elsewhere">')
    try:
        assert built.broken_links("a/x.html") == [
            "#gone: a/x.html has no id 'gone'",
            "../y.html#there: y.html has no id 'there'",
            "z.png: there is no a/z.png",
        ]
    finally:
        built.read.cache_clear()


# The book


def test_the_book_holds_every_page_of_the_table_of_contents(book):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {f"{chapter['file']}.html" for part in toc["parts"] for chapter in part["chapters"]}
    assert listed | {f"{toc['root']}.html", "index.html", "search.html"} <= set(built.pages())


def test_no_id_stands_twice(book, page):
    assert [name for name, count in Counter(built.read(page).ids()).items() if count > 1] == []


def test_no_link_is_broken(book, page):
    assert built.broken_links(page) == []


def test_the_markup_has_no_mistake(book, page):
    assert built.read(page).mistakes == []


def test_a_page_says_its_language_and_its_title(book, page):
    reader = built.read(page)
    assert next(a for tag, a in reader.elements if tag == "html").get("lang")
    assert [tag for tag, _ in reader.elements].count("title") >= 1


def test_a_page_loads_nothing_from_elsewhere(book, page):
    assert [link for link in built.read(page).loads() if ADDRESS.match(link)] == []


def code(text):
    """A script or a style without its comments, in which addresses may stand."""
    return re.sub(r"/\*.*?\*/|(?<![:\"'\\\w])//[^\n]*", "", text, flags=re.DOTALL)


def test_no_script_or_style_of_the_book_holds_an_address_to_load_from(book):
    found = {}
    for path in sorted(p for p in book.rglob("*") if p.suffix in {".js", ".css"}):
        hosts = set(ADDRESS.findall(code(path.read_text(encoding="utf-8")))) - NAMESPACES
        if extra := hosts - TOLD.get(path.name, set()):
            found[path.relative_to(book).as_posix()] = sorted(extra)
    assert found == {}


def test_a_comment_may_hold_an_address_and_code_may_not():
    text = '/* https://a.org */ x = 1; // https://b.org\nload("https://c.org/x.js"); s = "//d.org";'
    assert ADDRESS.findall(code(text)) == ["c.org", "d.org"]


def test_no_figure_is_too_heavy(book):
    figures = {path.name: path.stat().st_size for path in (book / "_images").iterdir()}
    heavy = {n: size for n, size in figures.items() if size > FIGURE_BYTES[built.Path(n).suffix]}
    assert heavy == {}
