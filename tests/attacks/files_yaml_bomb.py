"""A Markdown notebook whose YAML grows to billions when it is read, and makes objects."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    lines += ["boom: !!python/object/apply:os.system ['touch /tmp/MALLORY']"]
    head = "---\njupytext:\n  text_representation: {format_name: myst}\n" + "\n".join(lines)
    cell = "```{code-cell} ipython3\n---\n" + "\n".join(lines) + "\n---\n" + context.wrong + "\n```"
    text = f"{head}\n---\n\n{cell}\n"
    (folder / context.notebook.replace(".ipynb", ".md")).write_text(text)
