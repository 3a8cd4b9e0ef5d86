"""The notebook is a hard link to another student's notebook."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# A name of its own for the same file: nothing on disk tells it from a copy.
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).hardlink_to(context.other)
