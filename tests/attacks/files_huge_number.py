"""A notebook whose format is a number of a million digits."""

from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).write_text('{"cells": [], "nbformat": ' + "9" * 1_000_000 + "}")
