"""Names, texts and the student's own name are not ASCII."""

import json
from pathlib import Path
from typing import Any

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
STUDENT = "Zoë Łukasz-Ørsted 明日香"
ANSWER = (
    "# größe der köpfe — 大きさ\n"
    "def split_heads(x, num_heads):\n    größe, länge, ширина = x.shape\n"
    "    return x.reshape(größe, länge, num_heads, ширина // num_heads).transpose(1, 2)\n"
)


def build(folder: Path, context: Any) -> None:
    folder = folder.parent / STUDENT
    folder.mkdir()
    text = json.dumps(context.book(ANSWER), ensure_ascii=False)
    (folder / context.notebook).write_text(text, encoding="utf-8")
