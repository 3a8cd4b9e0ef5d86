"""Cells whose exercise ids are HTML, paths, formulas, formats and the ids of no exercise."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# One of its cells has the exercise's id, and is right.
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    book = context.book(context.right)
    for name in (
        "<script>alert('MALLORY')</script>",
        "../../grades",
        "=1+1",
        "{0.__class__}",
        "%s%n",
        "",
        "03.split_heads\n",
        "99.nothing",
        "03.SPLIT_HEADS",
        "\ud800",
        "\0",
        "x" * 100_000,
    ):
        cell = context.cell("raise SystemExit", name)
        book["cells"].insert(0, cell)
    (folder / context.notebook).write_text(json.dumps(book))
