"""A folder named with HTML, and its notebook with a formula, quotes and line ends."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# An honest answer in a hostile folder.
EARNS = 2
STUDENT = "<img src=x onerror=alert('MALLORY')>"


def build(folder: Path, context: Any) -> None:
    folder = folder.parent / STUDENT
    folder.mkdir()
    name = f"=HYPERLINK('x')\n\"';--_{context.notebook}"
    (folder / name).write_text(json.dumps(context.book(context.right)))
