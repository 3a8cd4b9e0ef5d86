"""A notebook of JSON that is nested 100,000 deep."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).write_text('{"cells":' + "[" * 100_000 + "]" * 100_000 + "}")
