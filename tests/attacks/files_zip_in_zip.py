"""A zip in a zip in a zip, forty deep, and one that holds itself by name."""

import io
import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    content = context.text(context.wrong)
    name = context.notebook
    for _ in range(40):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, content)
        content, name = buffer.getvalue(), "03.zip"
    (folder / "03.zip").write_bytes(content)
