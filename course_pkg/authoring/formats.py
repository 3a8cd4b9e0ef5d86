"""Notebooks as text: reading MyST Markdown and writing the same bytes for the same notebook."""

import json
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from course_pkg.errors import unknown_name

CELL_METADATA = ("tags", "mystnb", "exercise")
TAGS = (
    "check",
    "exercise",
    "explicit",
    "full-width",
    "hide-cell",
    "hide-input",
    "hide-output",
    "nbval-ignore-output",
    "raises-exception",
    "reference",
    "remove-cell",
    "remove-input",
    "remove-output",
    "scroll-output",
    "solution",
)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}
_HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""


def is_notebook(path: Path) -> bool:
    """Whether a Markdown page says in its header that it is a notebook."""
    text = path.read_text(encoding="utf-8")
    header = text.split("\n---", 1)[0] if text.startswith("---\n") else ""
    return "kernelspec:" in header


def read(path: Path) -> NotebookNode:
    """The cells of a MyST Markdown notebook, with the metadata that we keep and no outputs.

    Raises:
        ValueError: a cell is empty, or has a tag or a metadata key that nothing here reads.
    """
    source = jupytext.reads(path.read_text(encoding="utf-8"), fmt="md:myst")
    cells: list[NotebookNode] = []
    for cell in source.cells:
        metadata = json.loads(json.dumps(cell.metadata))
        if cell.cell_type == "code" and not cell.source.strip():
            raise ValueError(f"{path.name}: an empty code cell after {_last_line(cells)!r}.")
        for key in metadata:
            if key not in CELL_METADATA:
                raise unknown_name(f"{path.name}: cell metadata", key, CELL_METADATA)
        for tag in metadata.get("tags", []):
            if tag not in TAGS:
                raise unknown_name(f"{path.name}: cell tag", tag, TAGS)
        if cell.source.strip():
            cells.append(new_cell(cell.cell_type, cell.source, metadata))
    return new_notebook(cells)


def _last_line(cells: list[NotebookNode]) -> str:
    return cells[-1].source.splitlines()[-1] if cells else "the start"


def new_cell(kind: str, source: str, metadata: dict | None = None) -> NotebookNode:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source.strip("\n"), metadata=metadata or {})


def new_notebook(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook whose cell ids are their positions: random ones would change at every run."""
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index:03d}"
    metadata = {"kernelspec": dict(_KERNEL), "language_info": dict(_LANGUAGE)}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def to_ipynb(notebook: NotebookNode) -> str:
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def to_markdown(notebook: NotebookNode) -> str:
    """The notebook as MyST Markdown with our own header, which names no version of any tool."""
    text = jupytext.writes(notebook, fmt="md:myst")
    _, _, body = text.split("---\n", 2)
    return _HEADER + "\n" + body.strip("\n") + "\n"
