"""A cell whose one line has five million characters."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# It is right, and longer than any cell may be.
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    source = f'x = "{"a" * 5_000_000}"\n{context.right}'
    (folder / context.notebook).write_text(json.dumps(context.book(source)))
