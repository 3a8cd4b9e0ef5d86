"""A zip of a few hundred kilobytes that holds 300 MB of spaces and is called a notebook."""

import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    with (
        zipfile.ZipFile(folder / "03.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(context.notebook, "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(b" " * 1_000_000)
