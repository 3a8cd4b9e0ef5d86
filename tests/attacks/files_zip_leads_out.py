"""A zip whose names lead out of it: with dots, from the root, with drives and backslashes."""

import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "03.zip", "w") as archive:
        for name in (
            f"../../{context.other.parent.name}/{context.notebook}",
            f"../../../MALLORY_{context.notebook}",
            f"/tmp/MALLORY_{context.notebook}",
            f"C:\\MALLORY\\{context.notebook}",
            f"..\\..\\MALLORY_{context.notebook}",
        ):
            archive.writestr(name, context.text(context.right))
