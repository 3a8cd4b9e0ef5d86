"""Uses a helper that is defined in a cell of its own before the exercise's."""

import json
from pathlib import Path
from typing import Any

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
HELPER = "import torch\n\n\ndef swapped(x):\n    return torch.transpose(x, 1, 2)\n"
ANSWER = (
    "def split_heads(x, num_heads):\n    B, T, D = x.shape\n"
    "    return swapped(x.reshape(B, T, num_heads, D // num_heads))\n"
)


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    book = context.book(ANSWER)
    book["cells"].insert(0, context.cell(HELPER, None))
    book["cells"].insert(0, context.cell("print('notes to myself')", None))
    (folder / context.notebook).write_text(json.dumps(book))
