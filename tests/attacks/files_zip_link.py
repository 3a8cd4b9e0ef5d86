"""A zip whose entry is a symbolic link to a secret file."""

import stat
import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    entry = zipfile.ZipInfo(context.notebook)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "03.zip", "w") as archive:
        archive.writestr(entry, str(context.canary))
