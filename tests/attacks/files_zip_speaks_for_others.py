"""A zip that looks like an LMS's export, with wrong answers in the name of another student."""

import zipfile
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# Whatever is in the student's own zip is the student's own; the last of it is wrong.
EARNS = 0


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    other = context.other.parent.name
    with zipfile.ZipFile(folder / "submissions.zip", "w") as archive:
        for name in (
            f"{other}_1234_assignsubmission_file_/{context.notebook}",
            f"{other}/{context.notebook}",
            f"submitted/{other}/03_multi_head_attention/{context.notebook}",
        ):
            archive.writestr(name, context.text(context.wrong))
