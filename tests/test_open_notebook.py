"""The links at the top of a page that is a notebook, with and without the repository's address."""

import dataclasses
import sys
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("sphinx_book_theme")
pytest.importorskip("bs4")

import bs4

from course_pkg.authoring import formats, notebooks, plain

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/owner/course"
CHAPTER = """# Heads

(sec-a)=
## A section

See {ref}`sec-a`, {eq}`eq-a` and {doc}`other`.

$$
x = 1
$$ (eq-a)

```{code-cell} ipython3
1 + 1
```
"""


def build(root, repository):
    """Build a book of two pages, one of them a notebook, with the theme's own setting."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (root / "book").mkdir()
    source = root / "book" / "02_heads.md"
    source.write_text(formats._HEADER + "\n" + CHAPTER, encoding="utf-8")
    source.with_suffix(".ipynb").write_text(
        formats.to_ipynb(notebooks.build(source)), encoding="utf-8"
    )
    (root / "book" / "other.md").write_text("# Another page\n\nText.\n", encoding="utf-8")
    (root / "requirements.txt").write_text("click==8.1.0\n", encoding="utf-8")
    pages = "```{toctree}\nbook/02_heads\nbook/other\n```\n"
    (root / "index.md").write_text("# Start\n\n" + pages, encoding="utf-8")
    extensions = str(ROOT / "book" / "_ext")
    sys.path.insert(0, extensions)
    try:
        with docutils_namespace():
            app = Sphinx(
                root,
                None,
                root / "html",
                root / "doctrees",
                "html",
                confoverrides={
                    "extensions": ["myst_nb", "course_notebooks"],
                    "exclude_patterns": ["book/02_heads.md", "html", "requirements.txt"],
                    "html_static_path": [str(ROOT / "book" / "_static")],
                    "html_theme": "sphinx_book_theme",
                    "html_theme_options": {
                        "repository_url": repository,
                        "repository_branch": "main",
                    },
                    "myst_enable_extensions": ["dollarmath"],
                    "nb_execution_mode": "off",
                    "numfig": True,
                    "project": "book",
                },
                status=None,
                warningiserror=True,
            )
            app.build()
    finally:
        sys.path.remove(extensions)
    return app


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return build(tmp_path_factory.mktemp("without"), "")


@pytest.fixture(scope="module")
def with_address(tmp_path_factory):
    return build(tmp_path_factory.mktemp("with"), REPOSITORY)


def page(app, name):
    return bs4.BeautifulSoup(
        (Path(app.outdir) / name).read_text(encoding="utf-8"), features="html.parser"
    )


def links(app):
    bar = page(app, "book/02_heads.html").find("nav", class_="open-notebook")
    return {a.text: a["href"] for a in bar.find("ul").find_all("a") if not a.find_parent("details")}


def test_without_an_address_there_are_the_file_and_jupyter_alone(without):
    assert list(links(without)) == ["Download (.ipynb)"]
    soup = page(without, "book/02_heads.html")
    jupyter = soup.find("nav", class_="open-notebook").find("details")
    assert jupyter.summary.text == "Jupyter"
    assert "jupyter lab book/02_heads.ipynb" in jupyter.pre.text
    for place in ("colab", "mybinder", "github"):
        assert place not in str(soup.find("nav", class_="open-notebook"))
    assert not (Path(without.outdir) / "binder").exists()


def test_with_an_address_there_are_colab_and_binder_too(with_address):
    found = links(with_address)
    assert list(found) == ["Colab", "Binder", "Download (.ipynb)"]
    assert found["Colab"] == (
        "https://colab.research.google.com/github/owner/course/blob/gh-pages/notebooks/"
        "book/02_heads.ipynb"
    )
    assert found["Binder"] == (
        "https://mybinder.org/v2/gh/owner/course/gh-pages"
        "?urlpath=lab%2Ftree%2Fnotebooks%2Fbook%2F02_heads.ipynb"
    )
    # The file that both open, and what Binder installs, lie where the links say.
    assert (Path(with_address.outdir) / "notebooks" / "book" / "02_heads.ipynb").is_file()
    wanted = Path(with_address.outdir, "binder", "requirements.txt").read_text(encoding="utf-8")
    assert f"git+{REPOSITORY}@main" in wanted and "click==8.1.0" in wanted


@pytest.mark.parametrize("which", ["without", "with_address"])
def test_the_download_and_the_themes_button_give_the_plain_notebook(which, request):
    app = request.getfixturevalue(which)
    here = Path(app.outdir) / "book"
    target = (here / links(app)["Download (.ipynb)"]).resolve()
    buttons = page(app, "book/02_heads.html").find_all("a", class_="btn-download-source-button")
    assert {(here / button["href"]).resolve() for button in buttons} == {target}
    texts = [c.source for c in nbformat.read(target, as_version=4).cells]
    assert "course_pkg" in texts[0]
    assert (REPOSITORY in texts[0]) == (which == "with_address")
    home = "https://owner.github.io/course" if which == "with_address" else "../.."
    assert f"[A section]({home}/book/02_heads.html#sec-a)" in "\n".join(texts)
    assert f"[(1)]({home}/book/02_heads.html#equation-eq-a)" in "\n".join(texts)


def test_a_page_that_is_no_notebook_has_no_such_links(without):
    assert page(without, "book/other.html").find("nav", class_="open-notebook") is None
    assert not (Path(without.outdir) / "notebooks" / "book" / "other.ipynb").exists()


def test_the_links_stand_under_the_title_and_not_in_the_search(without):
    title = page(without, "book/02_heads.html").find(class_="bd-article").find("h1")
    assert title.find_next_sibling().get("class") == ["open-notebook"]
    index = (Path(without.outdir) / "searchindex.js").read_text(encoding="utf-8")
    assert "jupyterlab" not in index


def test_a_number_or_an_anchor_that_is_not_the_books_is_told(without, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import course_notebooks

    book = plain.read_book(Path(without.srcdir))
    assert set(book.targets) == {"sec-a", "eq-a"}
    assert course_notebooks.disagreements(book, without.env) == []
    for label, changes in (
        ("eq-a", {"number": "7"}),
        ("sec-a", {"anchor": "elsewhere"}),
        ("eq-a", {"page": "book/other"}),
    ):
        right = book.targets[label]
        book.targets[label] = dataclasses.replace(right, **changes)
        (problem,) = course_notebooks.disagreements(book, without.env)
        assert problem.startswith(label)
        book.targets[label] = right
