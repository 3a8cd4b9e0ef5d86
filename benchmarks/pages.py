"""What the book's pages weigh, and how soon one sees something of them, in Debian's Chromium."""

import statistics
import sys
from pathlib import Path
from typing import Any

import click
import common

sys.path.append(str(Path(__file__).parent.parent / "tests"))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "pages"))

import built
import visits

KINDS = {"html": "html", "css": "css", "js": "js", "fonts": (".woff", ".woff2", ".ttf")}
KINDS["images"] = (".svg", ".png")
# Milliseconds until the first text or picture is drawn, once it is.
FIRST_PAINT = """() => new Promise((done) => {
    new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) done(entry.startTime);
    }).observe({ type: "paint", buffered: true });
})"""


def measure(quick: bool = False) -> dict[str, Any]:
    """Bytes of each page with all it loads, and milliseconds until its first contentful paint.

    Each page is opened in a new window without a cache, from a server on this machine.
    """
    if missing := visits.missing():
        raise click.ClickException(missing)
    rounds = 1 if quick else 5
    results = {}
    with visits.visitor() as visitor:
        for page in built.opened_pages():
            if built.redirect(page):
                continue
            paints = [first_paint(visitor, page) for _ in range(rounds)]
            with visitor.page(page, "light-desktop") as opened:
                seen = visits.Seen(opened.requests, [], [], [])
                weights = {name: seen.weight(kinds) for name, kinds in KINDS.items()}
            results[page] = {
                "bytes": {"all": seen.weight(), **weights},
                "first_paint_ms": {**common.spread(paints)},
            }
    return {"machine": common.machine(), "rounds": rounds, "pages": results}


def first_paint(visitor: visits.Visitor, page: str) -> float:
    context = visitor.browser.new_context(**visits.SETTINGS["light-desktop"])
    opened = context.new_page()
    opened.goto(visitor.url(page))
    milliseconds = float(opened.evaluate(FIRST_PAINT))
    context.close()
    return milliseconds


def table(results: dict[str, Any]) -> str:
    """The weights as Markdown, the heaviest page first."""
    kinds = list(KINDS)
    lines = [
        f"| page | all, kB | {' | '.join(kinds)} | first paint, ms |",
        f"|---|{'---:|' * (len(kinds) + 2)}",
    ]
    pages = sorted(results["pages"].items(), key=lambda item: -item[1]["bytes"]["all"])
    for page, found in pages:
        numbers = [found["bytes"]["all"], *(found["bytes"][kind] for kind in kinds)]
        cells = [f"{number / 1000:.0f}" for number in numbers]
        cells.append(f"{found['first_paint_ms']['median']:.0f}")
        lines.append(f"| {page} | {' | '.join(cells)} |")
    return "\n".join(lines)


def show(results: dict[str, Any]) -> None:
    print(table(results))
    paints = [found["first_paint_ms"]["median"] for found in results["pages"].values()]
    heaviest = max(found["bytes"]["all"] for found in results["pages"].values())
    print(
        f"\n{len(paints)} pages; the heaviest has {heaviest / 1000:.0f} kB; first contentful "
        f"paint: median {statistics.median(paints):.0f} ms, slowest page {max(paints):.0f} ms"
    )


if __name__ == "__main__":
    common.program(measure, show)()
