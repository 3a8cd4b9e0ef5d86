"""Write pictures of every page of the built book, in four settings, into _build/screenshots.

    make screenshots
    .venv/bin/python scripts/screenshots.py book/05_gpt.html --settings dark-phone
    .venv/bin/python scripts/screenshots.py --widgets

A picture holds a whole page, or the part of one that fits into the highest picture that Chromium
draws; index.html beside them shows those of each page side by side. With --widgets they are of each
widget in use instead, step by step.
"""

import argparse
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # where it is missing, main says so
    from playwright.sync_api import Locator

sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "pages"))

import built
import visits

FOLDER = Path(__file__).parents[1] / "_build" / "screenshots"
HIGHEST = 16_000  # pixels; Chromium draws no higher picture

# Widget -> its page, and what a reader does: (the name of a picture, an action on the widget).
IN_USE = {
    "tokens": (
        "book/01_tokenizer.html",
        [
            ("begins", lambda root: root.locator(".chip").first.wait_for()),
            ("merges", lambda root: press(root, "Next merge", times=5)),
            ("all-merges", lambda root: root.get_by_role("slider").press("End")),
            ("own-text", lambda root: root.get_by_label("A text").fill("naïve tokens, 2026 🐕")),
        ],
    ),
    "attention": (
        "book/03_multi_head_attention.html",
        [
            ("begins", lambda root: root.get_by_role("radio").nth(13).wait_for()),
            ("another-head", lambda root: root.get_by_role("radio").nth(13).click()),
            ("another-token", lambda root: root.get_by_role("option").nth(4).click()),
            ("no-mask", lambda root: root.get_by_role("checkbox", name="causal mask").click()),
            ("no-scale", lambda root: root.get_by_role("checkbox", name="scores").click()),
        ],
    ),
    "story": (
        "book/05_gpt.html",
        [
            ("begins", lambda root: root.get_by_label("A beginning").wait_for()),
            ("writes", lambda root: write(root)),
            ("candidates", lambda root: press(root, "Earlier", times=9)),
            ("another-way", lambda root: root.get_by_role("listitem").nth(1).click()),
        ],
    ),
    "sampling": (
        "book/06_training.html",
        [
            ("begins", lambda root: root.locator("tbody tr").first.wait_for()),
            ("cold", lambda root: move(root, "temperature", "ArrowLeft", 6)),
            ("hot", lambda root: move(root, "temperature", "ArrowRight", 12)),
            ("top-k", lambda root: move(root, "top-k", "ArrowLeft", 4)),
            ("top-p", lambda root: move(root, "top-p", "ArrowLeft", 4)),
        ],
    ),
    "loss": (
        "book/06_training.html",
        [
            ("begins", lambda root: root.locator("svg").first.wait_for()),
            ("high-rate", lambda root: choose(root, 0, -1)),
            ("warmed-up", lambda root: choose(root, 1, -1)),
            ("small-batch", lambda root: choose(root, 2, 0)),
        ],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="such as book/05_gpt.html (default: all)")
    parser.add_argument("--settings", nargs="*", default=list(visits.SETTINGS))
    parser.add_argument("--widgets", action="store_true", help="each widget in use")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    asked = parser.parse_args()
    if missing := visits.missing():
        raise SystemExit(missing)
    pages = asked.pages or built.opened_pages()
    if wrong := sorted(set(pages) - set(built.pages())):
        raise SystemExit(f"The book has no page {wrong[0]}.")
    if wrong := sorted(set(asked.settings) - set(visits.SETTINGS)):
        raise SystemExit(f"{wrong[0]}: the settings are {', '.join(visits.SETTINGS)}.")
    folder = asked.to / "widgets" if asked.widgets else asked.to
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with visits.visitor() as visitor:
        for thing in IN_USE if asked.widgets else pages:
            take = use if asked.widgets else whole
            names = [
                name for setting in asked.settings for name in take(visitor, thing, setting, folder)
            ]
            rows.append((thing, names))
            print(thing, flush=True)
    (folder / "index.html").write_text(overview(rows), encoding="utf-8")
    print(folder / "index.html")


def whole(visitor: visits.Visitor, page: str, setting: str, folder: Path) -> Iterator[str]:
    """Pictures of a page from its top to its end; gives their names."""
    with visitor.page(page, setting) as opened:
        size = visits.SETTINGS[setting]["viewport"]
        height = max(opened.evaluate("document.documentElement.scrollHeight"), size["height"])
        # A window of the page's height: what sticks to a window's edge stands where it belongs.
        opened.set_viewport_size({**size, "height": height})
        for number, top in enumerate(range(0, height, HIGHEST)):
            name = f"{page.removesuffix('.html')}.{setting}{f'.{number}' * (number > 0)}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            part = {"x": 0, "y": top, "width": size["width"], "height": min(HIGHEST, height - top)}
            opened.screenshot(path=folder / name, clip=part)
            yield name


def use(visitor: visits.Visitor, kind: str, setting: str, folder: Path) -> Iterator[str]:
    """Pictures of a widget after each step of its use; gives their names."""
    page, steps = IN_USE[kind]
    with visitor.page(page, setting) as opened:
        # A window that holds the highest widget whole, below the bar at its top.
        opened.set_viewport_size({**visits.SETTINGS[setting]["viewport"], "height": 1800})
        root = opened.locator(f'[data-widget="{kind}"]')
        root.scroll_into_view_if_needed()
        for number, (what, action) in enumerate(steps):
            action(root)
            name = f"{kind}.{setting}.{number}-{what}.png"
            root.screenshot(path=folder / name)
            yield name


def choose(root: "Locator", axis: int, place: int) -> None:
    root.locator("fieldset").nth(axis).get_by_role("radio").nth(place).click(force=True)


def press(root: "Locator", button: str, times: int) -> None:
    for _ in range(times):
        root.get_by_role("button", name=button).click()


def move(root: "Locator", slider: str, key: str, times: int) -> None:
    for _ in range(times):
        root.get_by_role("slider", name=slider).press(key)


def write(root: "Locator") -> None:
    root.get_by_role("button", name="Write").click()
    root.get_by_role("button", name="Stop", disabled=True).wait_for()


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
