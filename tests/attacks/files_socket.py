"""The notebook is a socket, and beside it lies a notebook that is a folder."""

import os
import stat
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / f"x_{context.notebook}").mkdir()
    os.mknod(folder / context.notebook, stat.S_IFSOCK | 0o666)
