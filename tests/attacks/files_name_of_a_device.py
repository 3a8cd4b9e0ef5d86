"""A folder with a name that is a device on Windows, and one that every file system refuses."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# An honest answer in a hostile folder.
EARNS = 2
STUDENT = "CON"


def build(folder: Path, context: Any) -> None:
    folder = folder.parent / STUDENT
    folder.mkdir()
    (folder / context.notebook).write_text(json.dumps(context.book(context.right)))
