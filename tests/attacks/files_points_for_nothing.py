"""A wrong answer that claims to be passed, in metadata, outputs and a gradebook beside it."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    book = context.book(context.wrong)
    for cell in book["cells"]:
        cell["metadata"]["status"] = "passed"
        cell["metadata"]["nbgrader"] = {"manual_score": 2, "points": 2}
        cell["outputs"] = [
            {
                "output_type": "stream",
                "name": "stdout",
                "text": f"{context.exercise}: 7 of 7 properties hold (2 points)",
            }
        ]
    (folder / context.notebook).write_text(json.dumps(book))
    (folder / "grades.json").write_text('{"students": [{"points": 1000000000}]}')
    (folder / "grades.csv").write_text("student,points\nmallory,1000000000\n")
    (folder / ".course-progress.jsonl").write_text('{"exercise": "03.split_heads", "points": 2}\n')
