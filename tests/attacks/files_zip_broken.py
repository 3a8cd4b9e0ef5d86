"""Zips that are cut off, lie about their sizes and entries, or are none."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(context.notebook, context.text(context.right))
    whole = buffer.getvalue()
    end = whole.rindex(b"PK\x05\x06")
    lying = whole[:end] + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 1, 1, 0)
    for number, content in enumerate((whole[: len(whole) // 2], lying, b"PK\3\4", b"", whole[4:])):
        (folder / f"03_{number}.zip").write_bytes(content)
