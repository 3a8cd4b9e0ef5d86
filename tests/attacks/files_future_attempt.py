"""Attempts from the year 2100 and from before 1970, to outdate deadlines and break clocks."""

import json
import os
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# The file's time is the student's own to choose: it only orders their own attempts.
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    for number, (source, when) in enumerate(
        (
            (context.wrong, -(10**9)),
            (context.wrong, 0),
            (context.right, 4_102_444_800),
        )
    ):
        stem, suffix = context.notebook.split(".")
        path = folder / f"{stem} ({number}).{suffix}"
        path.write_text(json.dumps(context.book(source)))
        os.utime(path, (when, when))
