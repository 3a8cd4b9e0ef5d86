"""Write pictures of every page of the built book, in four settings, into _build/screenshots.

    make screenshots
    .venv/bin/python scripts/screenshots.py book/05_gpt.html --settings dark-phone

Each picture is a whole page; index.html beside them shows the four of each page side by side.
"""

import argparse
import sys
from html import escape
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "pages"))

import built
import visits

FOLDER = Path(__file__).parents[1] / "_build" / "screenshots"
HIGHEST = 16_000  # pixels; Chromium draws no higher picture


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="such as book/05_gpt.html (default: all)")
    parser.add_argument("--settings", nargs="*", default=list(visits.SETTINGS))
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    asked = parser.parse_args()
    if missing := visits.missing():
        raise SystemExit(missing)
    pages = asked.pages or built.opened_pages()
    if wrong := sorted(set(pages) - set(built.pages())):
        raise SystemExit(f"The book has no page {wrong[0]}.")
    if wrong := sorted(set(asked.settings) - set(visits.SETTINGS)):
        raise SystemExit(f"{wrong[0]}: the settings are {', '.join(visits.SETTINGS)}.")
    rows = []
    with visits.visitor() as visitor:
        for page in pages:
            names = []
            for setting in asked.settings:
                name = f"{page.removesuffix('.html')}.{setting}.png"
                (asked.to / name).parent.mkdir(parents=True, exist_ok=True)
                take(visitor, page, setting, asked.to / name)
                names.append(name)
            rows.append((page, names))
            print(page, flush=True)
    (asked.to / "index.html").write_text(overview(rows), encoding="utf-8")
    print(asked.to / "index.html")


def take(visitor: visits.Visitor, page: str, setting: str, path: Path) -> None:
    with visitor.page(page, setting) as opened:
        size = visits.SETTINGS[setting]["viewport"]
        height = opened.evaluate("document.documentElement.scrollHeight")
        # A window of the page's height: what sticks to a window's edge stands where it belongs.
        opened.set_viewport_size({**size, "height": min(max(height, size["height"]), HIGHEST)})
        opened.screenshot(path=path)


def overview(rows: list[tuple[str, list[str]]]) -> str:
    pictures = "\n".join(
        f"<h2>{escape(page)}</h2>\n<p>"
        + "\n".join(
            f'<a href="{escape(n)}"><img src="{escape(n)}" alt="{escape(n)}" loading="lazy"></a>'
            for n in names
        )
        for page, names in rows
    )
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Screenshots</title>\n'
        "<style>img { border: 1px solid grey; max-height: 40rem; max-width: 24% }</style>\n"
        f"{pictures}\n</html>\n"
    )


if __name__ == "__main__":
    main()
