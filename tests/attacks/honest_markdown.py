"""Hands in the Markdown form of the notebook."""

from pathlib import Path
from typing import Any

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    text = (
        "---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n"
        "kernelspec:\n  name: python3\n---\n\n# Exercises\n\n"
        f'```{{code-cell}} ipython3\n---\ntags: [exercise]\nexercise: {{id: "{context.exercise}", '
        f"points: 2, kind: implement}}\n---\n{context.right}```\n"
    )
    (folder / context.notebook.replace(".ipynb", ".md")).write_text(text)
