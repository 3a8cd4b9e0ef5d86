"""A notebook of a million cells."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# It is right, and larger than any notebook may be.
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    cell = '{"cell_type":"code","source":"","metadata":{},"outputs":[],"execution_count":null}'
    text = json.dumps(context.book(context.right))
    head, tail = text.split('"cells": [', 1)
    with (folder / context.notebook).open("w") as file:
        file.write(f'{head}"cells": [')
        for _ in range(1_000):
            file.write(f"{cell}," * 1_000)
        file.write(tail)
