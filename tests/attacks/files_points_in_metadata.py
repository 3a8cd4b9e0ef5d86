"""Claims a billion points in the metadata of its cell, its notebook and nbgrader's fields."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# The answer is right; the points are the exercise's.
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    book = context.book(context.right)
    book["metadata"] |= {"points": 1e9, "grade": "A", "nbgrader": {"manual_score": 1e9}}
    for cell in book["cells"]:
        cell["metadata"].setdefault("exercise", {})["points"] = 1_000_000_000
        cell["metadata"]["nbgrader"] = {
            "points": 1e9,
            "manual_score": 1e9,
            "auto_score": 1e9,
            "extra_credit": 1e9,
            "grade": True,
            "grade_id": "x",
            "solution": True,
            "locked": False,
            "schema_version": 3,
        }
    (folder / context.notebook).write_text(json.dumps(book))
