"""How fast the book's page writes with the trained model: tokens a second in Debian's Chromium."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import common

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import browser

from course_pkg.authoring import widgets

# Milliseconds of each of `count` tokens that are written after `start` others.
TIMED = """async ([start, count]) => {
    const model = new course.gpt.GPT(await course.load("story-1m"));
    const random = course.gpt.randomFrom(1), settings = { temperature: 0.8 };
    const ids = Array.from({ length: start }, (_, i) => (i * 7919) % 2048);
    course.gpt.step(model, ids, settings, random); // what it begins with is read
    const before = performance.now();
    for (let i = 0; i < count; i++) {
        ids.push(course.gpt.step(model, ids, settings, random).id);
    }
    return (performance.now() - before) / count;
}"""
CASES = {
    "from the first token, 200 tokens": (1, 200),
    "up to the full context, the last 50": (205, 50),
    "beyond the context, which is read again": (256, 20),
}


def measure(quick: bool = False) -> dict[str, Any]:
    """Tokens a second of the model in the page, at three lengths of the text."""
    if missing := browser.missing():
        raise click.ClickException(missing)
    rounds = 3 if quick else 9
    speeds: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder, browser.chromium() as opened:
        placed = [widgets.Widget("story", "", "")]
        page = browser.Page(opened, widgets.write_demo(folder, browser.WIDGETS, placed)).page
        for number in range(rounds + 1):
            for name, case in CASES.items():
                milliseconds = page.evaluate(TIMED, case)
                if number:  # in the first round the browser compiles
                    speeds[name].append(1000 / milliseconds)
    return {"tokens_per_second": {name: common.spread(values) for name, values in speeds.items()}}


def show(results: dict[str, Any]) -> None:
    keys = ("median", "least", "most")
    rows = [
        [name, *(f"{values[key]:.0f}" for key in keys)]
        for name, values in results["tokens_per_second"].items()
    ]
    common.show("Writing in the page: tokens per second", ["", *keys], rows)


if __name__ == "__main__":
    common.program(measure, show)()
