"""A folder whose name clears the screen, runs backwards and ends lines."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# An honest answer in a hostile folder.
EARNS = 2
STUDENT = "mal\x1b[2J\x1b]0;MALLORY\x07\u202eyrol\r\n\u2066\x9b1A"


def build(folder: Path, context: Any) -> None:
    folder = folder.parent / STUDENT
    folder.mkdir()
    (folder / context.notebook).write_text(json.dumps(context.book(context.right)))
