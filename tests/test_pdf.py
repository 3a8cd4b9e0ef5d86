"""The book as one PDF: its order, its outline, and that nothing is cut off."""

from pathlib import Path

import browser
import pytest
import yaml

from course_pkg.authoring import pdf

pypdf = pytest.importorskip("pypdf")

ROOT = Path(__file__).parent.parent
NEEDS_BROWSER = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")
LONG = "A heading of so many words that it has to break into two lines on a sheet of A4, at least"
STYLE = (ROOT / "book" / "_static" / "print.css").read_text(encoding="utf-8")


def document(folder, body):
    page = folder / "page.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title>'
        f"<style>pre {{ overflow: auto }} {STYLE}</style></head><body>"
        f'<main class="bd-content"><article class="bd-article">{body}</article></main>'
        "</body></html>",
        encoding="utf-8",
    )
    return page


def outline(entries, depth=0):
    for entry in entries:
        if isinstance(entry, list):
            yield from outline(entry, depth + 1)
        else:
            yield depth, entry.title


def test_the_solutions_stand_at_the_end_and_no_page_is_lost():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    printed = pdf.contents(toc)
    captions = [part["caption"] for part in printed["parts"]]
    assert captions[-1] == pdf.LAST
    others = [part["caption"] for part in toc["parts"] if part["caption"] != pdf.LAST]
    assert captions[:-1] == others
    assert sorted(map(str, printed["parts"])) == sorted(map(str, toc["parts"]))
    assert printed["root"] == toc["root"]


@NEEDS_BROWSER
def test_the_pdf_is_tagged_and_its_outline_has_the_headings_in_full(tmp_path):
    body = f'<h1>Top</h1><h2>{LONG}<a class="headerlink">#</a></h2><p>Text.</p><h2>Next</h2>'
    body += '<div style="height: 150mm"></div><h3>At the end of a sheet</h3><p>Text.</p>'
    pdf.print_document(document(tmp_path, body), tmp_path / "x.pdf", "The title", "The authors")
    made = pypdf.PdfReader(tmp_path / "x.pdf")
    expected = [(0, "Top"), (1, LONG), (1, "Next"), (2, "At the end of a sheet")]
    assert list(outline(made.outline)) == expected
    assert made.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert made.trailer["/Root"]["/Lang"] == "en"
    assert (made.metadata.title, made.metadata.author) == ("The title", "The authors")
    assert "Text." in made.pages[0].extract_text()


@NEEDS_BROWSER
def test_a_fold_is_open_on_paper_and_long_code_wraps(tmp_path):
    line = " ".join(f"word{i}" for i in range(60))
    body = '<h1>Top</h1><details class="hide"><summary>Show</summary><p>inside</p></details>'
    pdf.print_document(document(tmp_path, f"{body}<pre>{line}</pre>"), tmp_path / "x.pdf", "", "")
    text = " ".join(pypdf.PdfReader(tmp_path / "x.pdf").pages[0].extract_text().split())
    assert "inside" in text and "Show" not in text
    assert "word0 " in text and "word59" in text


@NEEDS_BROWSER
@pytest.mark.parametrize(
    "body",
    [
        '<p style="width: 900px">a wide one</p>',
        '<div style="overflow: auto; width: 300px"><p style="width: 400px">a wide one</p></div>',
    ],
    ids=["over the edge of the sheet", "in a box that scrolls"],
)
def test_what_would_be_cut_off_is_named_and_nothing_is_written(tmp_path, body):
    page = document(tmp_path, f"<h1>Top</h1>{body}")
    with pytest.raises(RuntimeError, match=r"cut off on paper:\n.*a wide one"):
        pdf.print_document(page, tmp_path / "x.pdf", "", "")
    assert not (tmp_path / "x.pdf").exists()


def test_without_chromium_the_error_names_it(tmp_path, monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setattr(pdf, "CHROMIUM", tmp_path / "chromium")
    with pytest.raises(RuntimeError, match=r"chromium is missing: .*make system"):
        pdf.print_document(tmp_path / "page.html", tmp_path / "x.pdf", "", "")
