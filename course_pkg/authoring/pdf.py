"""The book as one PDF: all pages in one document, printed by Chromium.

Sphinx puts the pages into one HTML document, so that references between chapters are links inside
the PDF. Chromium lays it out, which makes the PDF tagged and gives it an outline. Needs Playwright
and pypdf, which are among the tests' requirements, and Debian's Chromium.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from course_pkg.files import atomic_write

CHROMIUM = Path("/usr/bin/chromium")
NAME = "gpt-piece-by-piece.pdf"
LAST = "Solutions"  # the part that stands behind all others

# A4 with these margins leaves 180 mm, which are 680 CSS pixels.
_MARGIN: Any = {"top": "18mm", "bottom": "20mm", "left": "15mm", "right": "15mm"}
_WIDTH = 680
_FOOTER = (
    '<div style="font: 8pt sans-serif; width: 100%; text-align: center">'
    '<span class="pageNumber"></span></div>'
)

# A folded input is opened; a hint that is folded stays folded.
_PREPARE = """async () => {
  await document.fonts.ready;
  for (const fold of document.querySelectorAll("details.hide")) fold.open = true;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  for (const formula of document.querySelectorAll("div.math .formula")) {
    const wide = formula.scrollWidth / formula.clientWidth;
    if (wide > 1) formula.style.fontSize = `${Math.floor(100 / wide) - 1}%`;
  }
}"""

_HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6, [role=heading]")]
  .filter((heading) => heading.checkVisibility())
  .map((heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll("a.headerlink").forEach((part) => part.remove());
    return copy.textContent.replace(/\\s+/g, " ").trim();
  })"""

# What is cut off: it would scroll on a screen, or it reaches over the edge of the sheet.
_CLIPPED = """(width) => {
  const found = [];
  for (const element of document.querySelectorAll(".bd-article *")) {
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const hides = style.overflowX !== "visible" && style.display !== "inline";
    const over = element.getBoundingClientRect().right > width + 1;
    const inside = element.closest("math, svg");
    if (!inside && (over || (hides && element.scrollWidth > element.clientWidth + 1)))
      found.push(`${element.tagName.toLowerCase()}: ${element.textContent.trim().slice(0, 60)}`);
  }
  return found;
}"""


def contents(toc: dict[str, Any]) -> dict[str, Any]:
    """The table of contents of the PDF: that of the pages, with the solutions at the end."""
    parts = sorted(toc["parts"], key=lambda part: part["caption"] == LAST)
    return {**toc, "parts": parts}


def build_document(root: Path, work: Path) -> Path:
    """Put all pages into one HTML document below ``work``; returns its file.

    Raises:
        RuntimeError: the build ends with errors or warnings; they are on standard error.
    """
    work.mkdir(parents=True, exist_ok=True)
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    with atomic_write(work / "_toc.yml") as file:
        yaml.safe_dump(contents(toc), file, sort_keys=False)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(root), "-W", "-n", "--keep-going", "--builder", "singlehtml"]
    command += ["--toc", str(work / "_toc.yml"), "--path-output", str(work)]
    if subprocess.run(command, check=False).returncode:
        shutil.rmtree(work / "_build" / ".doctrees", ignore_errors=True)
        raise RuntimeError("the book in one document has errors or warnings, listed above")
    pages = work / "_build" / "singlehtml"
    # Links to images and styles are relative to the top folder, wherever the root page is.
    return Path(shutil.copyfile(pages / f"{toc['root']}.html", pages / "print.html"))


def print_document(page: Path, target: Path, title: str, author: str) -> None:
    """Print one HTML document as a tagged PDF with an outline.

    Raises:
        RuntimeError: Chromium is missing, or something on a sheet would be cut off; it is named.
    """
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        raise RuntimeError(f"{CHROMIUM} is missing: install Chromium (make system)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        view = browser.new_page(viewport={"width": _WIDTH, "height": 960})
        view.set_default_timeout(0)  # a book of this size takes minutes on a busy machine
        view.emulate_media(media="print", color_scheme="light")
        view.goto(page.resolve().as_uri())
        view.evaluate(_PREPARE)
        if clipped := view.evaluate(_CLIPPED, _WIDTH):
            raise RuntimeError("cut off on paper:\n  " + "\n  ".join(clipped))
        titles = view.evaluate(_HEADINGS)
        content = view.pdf(
            format="A4",
            margin=_MARGIN,
            tagged=True,
            outline=True,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=_FOOTER,
        )
        browser.close()
    _finish(content, target, titles, title, author)


def _finish(content: bytes, target: Path, titles: list[str], title: str, author: str) -> None:
    """Write the PDF with the headings' own texts in its outline.

    Chromium takes them from the laid-out lines: where a heading breaks, it joins two words.
    """
    import io

    from pypdf import PdfWriter
    from pypdf.generic import NameObject, TextStringObject

    writer = PdfWriter(clone_from=io.BytesIO(content))
    entries = list(_entries(writer.root_object["/Outlines"]))
    if len(entries) != len(titles):
        raise RuntimeError(f"the outline has {len(entries)} entries for {len(titles)} headings")
    for entry, text in zip(entries, titles, strict=True):
        entry[NameObject("/Title")] = TextStringObject(text)
    writer.add_metadata({"/Title": title, "/Author": author})
    with atomic_write(target, "wb") as file:
        writer.write(file)


def _entries(parent: Any) -> Iterator[Any]:
    """The entries of an outline from top to bottom, each before those inside it."""
    entry = parent.get("/First")
    while entry is not None:
        entry = entry.get_object()
        yield entry
        yield from _entries(entry)
        entry = entry.get("/Next")
