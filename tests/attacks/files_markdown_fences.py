"""A Markdown notebook with 200,000 open fences and a header that never ends."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    text = "---\n" + "a: &a [*a, *a]\n" * 50_000 + "```{code-cell}\n:tags: [" * 100_000
    (folder / context.notebook.replace(".ipynb", ".md")).write_text(text)
