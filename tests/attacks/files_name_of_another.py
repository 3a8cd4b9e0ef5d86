"""A folder whose name becomes another student's once it is made safe, folded or normalised."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# It answers wrongly; the other keeps what is theirs.
EARNS = 0


def build(folder: Path, context: Any) -> None:
    name = context.other.parent.name
    folder = folder.parent / f"{name[:-1]}{name[-1].upper()}"
    folder.mkdir()
    (folder / context.notebook).write_text(json.dumps(context.book(context.wrong)))
