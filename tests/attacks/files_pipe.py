"""The notebook is a pipe that nobody writes into."""

import os
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    os.mkfifo(folder / context.notebook)
