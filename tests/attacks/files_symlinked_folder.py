"""The folder is a symbolic link to another student's folder."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.symlink_to(context.other.parent, target_is_directory=True)
