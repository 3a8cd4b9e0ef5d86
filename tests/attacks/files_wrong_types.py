"""A notebook in which every field is of another type than it should be."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    cells = [
        None,
        3,
        "text",
        [],
        {"cell_type": 5, "source": {"a": 1}, "metadata": []},
        {"cell_type": "code", "source": [1, None], "metadata": {"exercise": [context.exercise]}},
        {"cell_type": "code", "source": "x", "metadata": {"exercise": {"id": 5}}},
        {"cell_type": "code", "source": "x", "metadata": {"exercise": {"id": ["03.split_heads"]}}},
        {"cell_type": "code", "source": None, "metadata": {"exercise": {"id": context.exercise}}},
    ]
    book = {"cells": cells, "nbformat": "4", "nbformat_minor": None, "metadata": 7}
    (folder / context.notebook).write_text(json.dumps(book))
