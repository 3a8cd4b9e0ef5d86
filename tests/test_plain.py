"""Plain notebooks: nothing of MyST is left, everything else is as it was, and they run."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

pytest.importorskip("myst_parser")

from markdown_it import MarkdownIt

from course_pkg.authoring import formats, notebooks, plain
from course_pkg.authoring.addresses import Address
from course_pkg.checks.notebooks import check_notebook

ROOT = Path(__file__).parent.parent
GITHUB = Address("https://github.com/owner/course")
BOOK = plain.read_book(ROOT)
PAGES = [page for page in BOOK.pages.values() if page.notebook is not None]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The site's folder with the plain notebooks, without an address."""
    folder = tmp_path_factory.mktemp("site")
    plain.export(BOOK, folder, Address())
    return folder


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def prose(text):
    """A text without its code and formulas, by rules that know nothing of the converter."""
    text = re.sub(r"^([> ]*)(`{3,}|~{3,})[^`\n{]*\n.*?^[> ]*\2[ ]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"(?<!\})(`+)(?!`).+?(?<!`)\1(?!`)", "", text, flags=re.S)
    return re.sub(r"\$\$.+?\$\$|\$[^$]+?\$", "", text, flags=re.S)


RAW = {
    "a role": r"\{[a-zA-Z:_-]+\}`",
    "a colon fence": r"^[> ]*:{3,}",
    "a directive": r"^[> ]*(?:`{3,}|~{3,})\{",
    "a label": r"^[> ]*\([\w-]+\)=",
    "an option": r"^[> ]*:(?:class|name|width|alt|label):",
    "a formula's label": r"\$\$[ ]*\([\w-]+\)",
    "attributes": r"[)\]`]\{[.#\w][^}]*\}",
    "a break": r"^\+\+\+",
}


@each_page
@pytest.mark.parametrize("address", [Address(), GITHUB], ids=["no address", "address"])
def test_no_page_shows_raw_myst(page, address):
    for text in markdown(plain.plain_notebook(BOOK, page, address)):
        assert plain.leftovers(text) == []
        for what, pattern in RAW.items():
            found = re.search(pattern, prose(text), re.M)
            assert found is None, f"{what}: {text[max(0, found.start() - 60) :][:200]}"


def test_the_pages_do_hold_what_is_looked_for():
    everything = [text for page in PAGES for text in markdown(page.notebook)]
    for what in ("a role", "a directive", "a label", "a formula's label"):
        assert any(re.search(RAW[what], text, re.M) for text in everything), what
    assert sum(bool(plain.leftovers(text)) for text in everything) > 50


@each_page
def test_code_outputs_and_exercises_are_those_of_the_page(page):
    made = plain.plain_notebook(BOOK, page, Address())
    first, *code = [cell for cell in made.cells if cell.cell_type == "code"]
    given = [cell for cell in page.notebook.cells if cell.cell_type == "code"]
    assert made.cells[0] is first
    assert [(c.source, c.outputs, c.execution_count) for c in code] == [
        (c.source, c.outputs, c.execution_count) for c in given
    ]
    for key in ("tags", "exercise"):
        assert [c.metadata.get(key) for c in code] == [c.metadata.get(key) for c in given]
    nbformat.validate(made)


# The text


@pytest.fixture
def convert():
    page = plain.Page("book/02_heads", "Heads", "2", None)
    cell = formats.new_cell("markdown", "(sec-a)=\n## A *telling* title\n\n$$\nx\n$$ (eq-a)")
    figure = {"mystnb": {"figure": {"caption": "C.", "name": "fig-a"}}}
    cells = [cell, formats.new_cell("code", "x", figure)]
    book = plain.Book(ROOT, citations={"gage1994new": ("Gage", "1994", "https://doi.org/1")})
    book.pages = {page.name: page, "book/setup": plain.Page("book/setup", "Set up", "", None)}
    book.targets = dict(plain._targets(page, cells, plain._Count()))

    def run(text, address=Address()):  # noqa: B008
        return plain.Converter(book, page, address).text(text)

    return run


HERE = "../../book/02_heads.html"
EQUATION = f"[(2.1)]({HERE}#equation-eq-a)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("See {ref}`sec-a`.", f"See [A *telling* title]({HERE}#sec-a)."),
        ("See {ref}`that\none <sec-a>`.", f"See [that one]({HERE}#sec-a)."),
        ("{numref}`fig-a`", f"[Fig. 2.1]({HERE}#fig-a)"),
        ("{numref}`picture %s <fig-a>`", f"[picture 2.1]({HERE}#fig-a)"),
        ("{eq}`eq-a`", EQUATION),
        ("{doc}`setup`", "[Set up](../../book/setup.html)"),
        ("{doc}`/book/setup`", "[Set up](../../book/setup.html)"),
        ("{cite:t}`gage1994new` did", "[Gage (1994)](https://doi.org/1) did"),
        ("as known {cite:p}`gage1994new`", "as known ([Gage, 1994](https://doi.org/1))"),
        ("{py:func}`~course_pkg.generate`", "`generate`"),
        ("{mod}`course_pkg.loss`", "`course_pkg.loss`"),
        ("(sec-b)=\n## Title", "## Title"),
        ("% a comment\n\ntext", "text"),
        ("$$\na\n$$ (eq-a)", "$$\na\n\\tag{2.1}\n$$"),
        ("```{math}\n:label: eq-a\na\n```", "$$\na\n\\tag{2.1}\n$$"),
        ("[](setup.md)", "[Set up](../../book/setup.html)"),
        ("[this](#sec-a)", f"[this]({HERE}#sec-a)"),
        ("[`a`](setup.md){.big} b", "[`a`](../../book/setup.html) b"),
        ("![A map](_static/logo.svg){width=3px}", "![A map](../../_static/logo.svg)"),
        ("![A](_static/logo.svg){.only-dark}\nb", "b"),
        (":::{note}\nText {eq}`eq-a`.\n:::", f"> **Note**\n>\n> Text {EQUATION}."),
        ("```{margin}\nAside.\n```", "> Aside."),
        (
            ":::{admonition} Title with `code`\n:class: tip\n:name: x\n\n"
            "```python\n{ref}`y`\n```\n:::",
            "> **Title with `code`**\n>\n> ```python\n> {ref}`y`\n> ```",
        ),
        ("- item\n\n  ```{tip}\n  Text.\n  ```\n- next",
         "- item\n\n  > **Tip**\n  >\n  > Text.\n- next"),
        ("> {ref}`words of\n> mine <sec-a>`", f"> [words of mine]({HERE}#sec-a)"),
        ("| a | b |\n|---|---|\n| {eq}`eq-a` | `{x}` |",
         f"| a | b |\n|---|---|\n| {EQUATION} | `{{x}}` |"),
        ("```{code-block} text\na\n```", "```text\na\n```"),
        ("`{ref}` and {eq}`eq-a`, `` {eq}`eq-a` ``",
         f"`{{ref}}` and {EQUATION}, `` {{eq}}`eq-a` ``"),
    ],
)  # fmt: skip
def test_each_kind_of_myst_has_a_plain_form(convert, given, expected):
    assert convert(given) == expected
    assert plain.leftovers(expected) == []


@pytest.mark.parametrize(
    "text",
    [
        "# Title\n\nA *text* with `{ref}` and `f(\n  x)` and $a_{b}$ and <https://a.b>.\n\n- one",
        "```python\n(label)=\n{ref}`x`\n:::{note}\n```",
        "    indented {ref}`x`\n\n| a |\n|---|\n| `b` |",
        "\\begin{align}\na &= b\n\\end{align}\n\n$$\nx\n$$\n\n[a](https://a.b/c_(d) \"title\")",
        "- [ ] to do\n- [x] done\n\n<b>bold</b>\n\n> quote\n> more",
    ],
)  # fmt: skip
def test_what_is_plain_already_stays_as_it_is(convert, text):
    assert convert(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ref}`sec-z`", "label 'sec-z': no page defines it"),
        ("{eq}`eq-z`", "label 'eq-z'"),
        ("{doc}`nowhere`", "page 'nowhere'"),
        ("{cite:t}`nobody2000`", "citation 'nobody2000'"),
        ("{wobble}`x`", "role 'wobble'"),
        ("```{wobble}\nx\n```", "directive 'wobble'"),
        ("[a](nowhere.ipynb)", "link to 'nowhere.ipynb'"),
        ("![a](_static/nothing.svg)", "picture '_static/nothing.svg'"),
        ("a[^1]\n\n[^1]: b", "footnote"),
    ],
)
def test_what_has_no_plain_form_is_told_with_its_page(convert, text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        convert(text)
    assert str(caught.value).startswith("book/02_heads: ")


def test_with_an_address_links_and_pictures_are_those_of_the_site(convert):
    text = "{ref}`sec-a` [s](setup.md) ![L](_static/logo.svg)"
    home = "https://owner.github.io/course"
    assert convert(text, GITHUB) == (
        f"[A *telling* title]({home}/book/02_heads.html#sec-a) [s]({home}/book/setup.html) "
        f"![L]({home}/_static/logo.svg)"
    )


def test_the_parser_has_the_books_extensions():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert sorted(plain.EXTENSIONS) == sorted(config["parse"]["myst_enable_extensions"])


# The notebooks


def links(notebook):
    """Where the links and pictures of a notebook lead, as plain Markdown reads them."""
    for text in markdown(notebook):
        for token in MarkdownIt("commonmark").enable("table").parse(text):
            for part in token.children or []:
                address = part.attrs.get("href") or part.attrs.get("src")
                if address:
                    yield str(address)


def test_every_link_and_picture_exists(exported):
    anchors = {f"{t.page}.html#{t.anchor}" for t in BOOK.targets.values()}
    checked = 0
    for path in sorted((exported / "notebooks").rglob("*.ipynb")):
        for address in links(nbformat.read(path, as_version=4)):
            if address.startswith(("https://", "http://")):
                continue
            checked += 1
            file, _, anchor = address.partition("#")
            there = (path.parent / file).resolve().relative_to(exported.resolve()).as_posix()
            if there.startswith("notebooks/"):
                assert (exported / there).is_file(), (path.name, address)
            elif there.startswith("_static/"):
                assert (ROOT / "book" / there).is_file(), (path.name, address)
            else:
                assert there.removesuffix(".html") in BOOK.pages, (path.name, address)
                known = f"{there}#{anchor}" in anchors
                assert not anchor or known or anchor in headings(there), (path.name, address)
    assert checked > 100


def headings(there):
    """The anchors that MyST gives the headings of a page."""
    page = BOOK.pages[there.removesuffix(".html")]
    titles = [t for text in markdown(page.notebook) for t in plain._headings(text)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_the_first_cell_does_nothing_where_the_package_is(page, monkeypatch, tmp_path):
    for name in plain.data_of(page, ROOT):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("it installs"))
    for address in (Address(), GITHUB):
        exec(plain.plain_notebook(BOOK, page, address).cells[0].source, {})


def test_the_first_cell_installs_the_package_where_it_is_missing(monkeypatch):
    ran = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    exec(plain.first_cell(GITHUB), {})
    ((_, *command),) = ran
    assert command[:3] == ["-m", "pip", "install"]
    assert "git+https://github.com/owner/course@main" in command
    with pytest.raises(ModuleNotFoundError, match=r"pip install -r requirements\.txt"):
        exec(plain.first_cell(Address()), {})
    assert len(ran) == 1


def test_the_first_cell_fetches_the_pages_data_from_the_site(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("urllib.request.urlretrieve", lambda *args: fetched.append(args))
    exec(plain.first_cell(GITHUB, ("recipe.json",)), {})
    home = "https://owner.github.io/course/notebooks/book/data/recipe.json"
    assert fetched == [(home, "data/recipe.json")]
    with pytest.raises(FileNotFoundError, match=r"recipe\.json"):
        exec(plain.first_cell(Address(), ("recipe.json",)), {})


def test_gpt2s_files_are_those_that_are_pinned():
    assert f"{plain.GPT2_FILES}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_the_data_that_a_page_names_lies_beside_its_notebook(exported):
    named = {name for page in PAGES for name in plain.data_of(page, ROOT)}
    copied = {path.name for path in (exported / "notebooks" / "book" / "data").iterdir()}
    assert named == copied
    assert "performance.json" in named


def test_binder_installs_the_pins_and_the_package_where_there_is_an_address(exported, tmp_path):
    assert not (exported / "binder").exists()
    plain.export(BOOK, tmp_path, GITHUB)
    lines = (tmp_path / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "gpt-piece-by-piece @ git+https://github.com/owner/course@main" in lines
    assert set((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()) <= set(lines)


def test_a_second_export_changes_nothing(exported):
    before = {p: p.stat().st_mtime_ns for p in (exported / "notebooks").rglob("*.ipynb")}
    plain.export(BOOK, exported, Address())
    assert before == {p: p.stat().st_mtime_ns for p in (exported / "notebooks").rglob("*.ipynb")}


def test_a_chapters_plain_notebook_runs_from_its_first_cell_and_prints_the_same(
    exported, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = exported / "notebooks" / "book" / "02_causal_attention.ipynb"
    notebook = nbformat.read(path, as_version=4)
    expected = [c.outputs for c in notebook.cells if c.cell_type == "code"]
    notebooks.execute(notebook, path.parent)
    got = [c.outputs for c in notebook.cells if c.cell_type == "code"]

    def printed(outputs):
        return [o.text for cell in outputs for o in cell if o.output_type == "stream"]

    assert printed(got) == printed(expected)
    assert len(printed(got)) > 10


def test_a_plain_notebook_of_exercises_is_checked_as_the_learners_own(exported):
    path = exported / "notebooks" / "exercises" / "02_causal_attention.ipynb"
    checked = check_notebook(path)
    assert checked.problem is None
    assert checked.notes == ()
    assert {result.status for result in checked.results} == {"not started"}
    assert len(checked.results) == 10
