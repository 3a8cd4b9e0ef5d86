"""A folder whose name leads, once decoded or trimmed, to the grades."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# An honest answer in a hostile folder.
EARNS = 2
STUDENT = "%2e%2e%2f..%2fgrades\u2024\u2024\u2215mallory"


def build(folder: Path, context: Any) -> None:
    folder = folder.parent / STUDENT
    folder.mkdir()
    (folder / context.notebook).write_text(json.dumps(context.book(context.right)))
