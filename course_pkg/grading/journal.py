"""The diary of a grading run: each result is on disk before the next one counts.

``.journal.jsonl`` in the output folder has a line that says which run it is, and a line for each
exercise of each student that is finished. A line is only ever added, and carries a sum of its own
text: one that is damaged, as a crash or a full disk leaves the last, is passed over, and that
exercise runs again.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from course_pkg.grading.results import ExerciseResult

JOURNAL = ".journal.jsonl"
_LOCK = ".lock"
_DONE = {"done": True}


class Journal:
    """The journal of an output folder, for one grader at a time.

    Args:
        out: the output folder; it is made.
        run: what makes it this run and no other: seed, limits, exercises.
        resume: go on with the run in the folder.

    Raises:
        ValueError: another grader works there; or the folder holds a run that was interrupted and
            ``resume`` is not set, or another run than this one and it is set; or results of which
            nothing says what run they are of.
        OSError: the folder cannot be written.
    """

    def __init__(self, out: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / JOURNAL
        self._lock = _take_lock(out)
        try:
            old, results, done, size = read(self._path)
            if old is None and results:
                raise ValueError(
                    f"{self._path} is damaged: it does not say which run its results are of. "
                    "Choose another --out, or remove that file to grade anew."
                )
            if resume and old is not None and old != dict(run):
                changed = ", ".join(k for k in run if old.get(k) != run[k]) or "something"
                raise ValueError(
                    f"{out} holds another run: {changed} differs. Choose another --out, or grade "
                    "anew without --resume."
                )
            if old is not None and not done and not resume:
                raise ValueError(
                    f"{out} holds a run that was interrupted: --resume goes on with it; "
                    "or choose another --out."
                )
            goes_on = resume and old is not None
            self._results = results if goes_on else {}
            self._file: IO[bytes] = self._path.open("r+b" if goes_on else "wb")
            if goes_on:
                self._file.truncate(size)
                self._file.seek(size)
            else:
                self._add({"run": dict(run)})
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._named():
                self._file.close()  # what a full disk did not take is tried once more
        finally:
            self._lock.close()

    def known(self, student: str, exercise_id: str, of: str) -> ExerciseResult | None:
        """The result of an exercise, if what was graded then is what there is now."""
        kept = self._results.get((student, exercise_id))
        return kept[1] if kept is not None and kept[0] == of else None

    def add(self, student: str, of: str, result: ExerciseResult) -> None:
        """Keep a result. It is on disk when this returns.

        Raises:
            OSError: the disk is full; the results so far are safe.
        """
        self._results[student, result.exercise_id] = of, result
        self._add({"student": student, "of": of, "result": result.to_dict()})

    def finish(self) -> None:
        """Say that the run is complete and its reports are written."""
        self._add(_DONE)

    def _add(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, sort_keys=True)
        with self._named():
            self._file.write(f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """The errors of an open file name no file; these do."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


_Results = dict[tuple[str, str], tuple[str, ExerciseResult]]


def read(path: Path) -> tuple[dict[str, Any] | None, _Results, bool, int]:
    """The run, its results, whether it is finished, and the size up to the end of a line."""
    run: dict[str, Any] | None = None
    results: _Results = {}
    done = False
    whole = b""
    with contextlib.suppress(FileNotFoundError):
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
    for line in whole.split(b"\n")[:-1]:
        content = _content(line)
        if content is None:
            continue
        if "run" in content:
            run = content["run"]
        elif content == _DONE:
            done = True
        else:
            done = False
            result = ExerciseResult.from_dict(content["result"])
            results[content["student"], result.exercise_id] = content["of"], result
    return run, results, done, len(whole)


def _content(line: bytes) -> dict[str, Any] | None:
    """What a line holds, if nothing of it is damaged."""
    total, _, text = line.partition(b" ")
    if total != f"{zlib.crc32(text):08x}".encode():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _take_lock(out: Path) -> IO[bytes]:
    """A lock that ends with this process, however it ends."""
    import fcntl  # not on Windows, where nothing is graded

    file = (out / _LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ValueError(f"{out}: another grader works in this folder.") from None
    return file


def digest(*parts: str) -> str:
    """A short name for what was graded."""
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
