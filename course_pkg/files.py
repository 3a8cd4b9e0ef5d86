"""Where the package's own files are, and writing files so that nothing is ever lost."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MODELS = Path(__file__).parent / "models"  # a folder for each trained model of this package


def packaged_models() -> list[str]:
    """The names of the trained models that come with this package."""
    return sorted(path.parent.name for path in MODELS.glob("*/config.json"))


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that it holds either the old content or all of the new.

    The content goes to a temporary file in the same folder, which replaces ``path`` in one step
    once it is complete and on disk. On any error, a full disk or Ctrl-C included, ``path`` is
    what it was before and the temporary file is gone. Text is UTF-8 with ``\\n`` on every
    platform. Missing parent folders are created.

    Raises:
        ValueError: ``mode`` is neither ``"w"`` nor ``"wb"``.
        OSError: the folder cannot be written, or the disk is full.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode={mode!r} is not allowed: it is 'w' (text) or 'wb' (bytes).")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    encoding, newline = ("utf-8", "\n") if mode == "w" else (None, None)
    try:
        with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_permissions(target))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _permissions(target: Path) -> int:
    """The mode of the file to be replaced, or what a plain ``open`` would give a new one."""
    with contextlib.suppress(FileNotFoundError):
        return target.stat().st_mode & 0o777
    # The umask can only be read by setting it. mkstemp's 0600 would hide the file from a group.
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
