"""A notebook that an editor saved with a byte order mark and Windows line ends."""

import json
from pathlib import Path
from typing import Any

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    book = context.book(context.right.replace("\n", "\r\n"))
    text = "\ufeff" + json.dumps(book, indent=1).replace("\n", "\r\n")
    (folder / context.notebook).write_text(text, encoding="utf-8", newline="")
