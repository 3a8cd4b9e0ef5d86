"""The notebook is a symbolic link to a secret file."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).symlink_to(context.canary)
