"""A notebook of random bytes, and a Markdown notebook of null characters."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).write_bytes(bytes(range(256)) * 1_000)
    (folder / context.notebook.replace(".ipynb", ".md")).write_bytes(b"\0" * 100_000)
