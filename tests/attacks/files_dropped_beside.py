"""Files that Python, pytest, Jupyter or git would run, beside the notebook."""

import json
from pathlib import Path
from typing import Any

KIND = "files"
EXERCISE = "03.split_heads"
# The answer is right; what lies beside the notebook is never imported.
EARNS = 2
PAYLOAD = "import pathlib\npathlib.Path('@GRADES@/MALLORY').write_text('MALLORY')\n"


def build(folder: Path, context: Any) -> None:
    folder.mkdir()
    (folder / context.notebook).write_text(json.dumps(context.book(context.right)))
    for name in (
        "conftest.py",
        "sitecustomize.py",
        "usercustomize.py",
        "torch.py",
        "json.py",
        "struct.py",
        "course_pkg.py",
        "nbgrader_config.py",
        "jupyter_config.py",
        "setup.py",
        "__init__.py",
        "03_multi_head_attention.py",
        "MALLORY.pth",
    ):
        (folder / name).write_text(context.fill(PAYLOAD))
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[core]\n\tfsmonitor = touch /tmp/MALLORY\n")
