"""What a class handed in, read as data: nothing of it is run, parsed as Python or unpacked to disk.

``collect`` walks a folder of notebooks (``.ipynb``, or ``.md`` in MyST's format), folders and zips,
finds whose each file is, and takes from each student's latest attempt the cells that answer an
exercise. Whatever is wrong with a file becomes an oddity or a reason why it was refused, never an
exception: one student's file stops nobody else's.

Whose a file is, is said by the outermost part of its path that names a student; nothing inside a
student's own folder or zip can change that:

- ``Full Name_1234567_assignsubmission_file_`` (Moodle), ``lastfirst_12345_6789_name.ipynb``
  (Canvas, with ``_LATE`` or not), ``Week 3_user_attempt_2026-03-01-10-20-30_name.ipynb``
  (Blackboard);
- else a folder or a zip, named after the student. Names that only say what they hold
  (``submitted``, ``exercises``, ``week 3``, ``03_multi_head_attention``) are looked through;
- else what the file's name has beside the chapter: ``anna_03_multi_head_attention (1).ipynb``.

A folder or zip of any other name is looked through only where all that it holds bears an LMS's
names and no student's plain folder (or zip) lies beside it. A student could otherwise hand in a zip
that speaks for others.

When a file was handed in is said by the first of these that is there: the time in Blackboard's
name; ``timestamp.txt`` in nbgrader's ``submitted/STUDENT/ASSIGNMENT/``; the time of the entry in an
export's zip; the time of the file on disk. Entries of a zip that a student made have the time of
that zip. A time without a zone is UTC in a name or ``timestamp.txt``, and local in a zip.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zoneinfo
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from course_pkg.errors import unknown_name
from course_pkg.grading import release

MAX_FILE = 20_000_000  # bytes of a notebook, and of a zip within a zip
MAX_CELL = 200_000  # bytes of a cell's source
MAX_CELLS = 2_000
MAX_BRACKETS = 1_000_000  # arrays and objects of a notebook: each costs far more than it is long
MAX_EXTRAS = 1_000_000  # characters of all cells that answer no exercise
MAX_DEPTH = 12  # folders within folders
MAX_PATH = 1_000  # characters of a name in a zip
MAX_ZIP = 2_000_000_000  # bytes of a zip on disk
MAX_ZIP_ENTRIES = 20_000
MAX_UNZIPPED = 200_000_000  # bytes of one student
MAX_FILES = 2_000  # notebooks and zips of one student, and entries of a zip within a zip
MAX_RATIO = 200  # bytes out of a zip for each byte in it, beyond the first megabyte
MAX_NAME = 200  # characters of a name that is shown
MAX_ID = 80  # characters of a student's id; with what is added, a file's name has 255 bytes at most
_MAX_ID_BYTES = 180
_MAX_STEM = 255  # characters of a file's name that are looked at
_MAX_LINES = 20  # oddities about one student's files beside the notebooks
_MAX_ODDITIES = 500

# The chapters' notebooks: a file is named like them, with the student's name before or after.
NOTEBOOKS: Mapping[int, str] = {
    1: "tokenizer",
    2: "causal_attention",
    3: "multi_head_attention",
    4: "transformer",
    5: "gpt",
    6: "training",
}

_Kind = Literal["ipynb", "md", "zip", "other"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """The code that answers an exercise.

    ``source`` is the code of the exercise's cell; the parts of a cell that was split are joined by
    a blank line. Magics are still in it.
    """

    exercise_id: str
    source: str
    oddities: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Submission:
    """The attempt of a student at a chapter that counts.

    Attributes:
        student: an id that is safe as a file's name, and no other student's: letters of any script,
            digits and ``._@+-``, at most 80 characters, with no dot or hyphen in front.
        name: what to show: without control characters, at most 200 characters.
        chapter: its number.
        file: the path below the folder; ``batch.zip!inner/x.ipynb`` within a zip.
        attempt: which of ``attempts`` it is, counted from 1 in the order of time.
        submitted: when it was handed in, in UTC and whole seconds; ``None`` where nothing says so.
        answers: by exercise id, of this chapter only, in the chapter's order.
        extras: the student's other code cells in order: no exercise's, no check's.
        oddities: a line for each odd thing; those of a single answer are with the answer.
        refused: why the file could not be taken at all; there are no answers then.
    """

    student: str
    name: str
    chapter: int
    file: str
    attempt: int
    attempts: int
    submitted: datetime | None
    answers: Mapping[str, Answer]
    extras: tuple[str, ...]
    oddities: tuple[str, ...]
    refused: str | None = None


@dataclasses.dataclass(frozen=True)
class Collected:
    """What ``collect`` found.

    ``submissions`` has one for each student and chapter, sorted by these. ``oddities`` are about
    files that belong to no student or no chapter.
    """

    submissions: tuple[Submission, ...]
    oddities: tuple[str, ...]


def collect(
    folder: Path,
    chapters: Mapping[int, Sequence[str]],
    *,
    only_chapters: Collection[int] = (),
    students: Collection[str] = (),
) -> Collected:
    """Read the submissions below a folder.

    Args:
        folder: where they lie; only files below it are read.
        chapters: the ids of the exercises by the chapter's number, in the chapter's order.
        only_chapters: the chapters to give; by default all.
        students: ids or names of the students to give, by default all. The files of others are not
            opened, but for the lists of zips, and ids do not depend on this.

    Raises:
        ValueError: there is no such folder or nothing in it, or a chapter or student is unknown.
        OSError: the folder itself cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is no folder: give the one with the submissions.")
    for chapter in only_chapters:
        if chapter not in chapters:
            raise unknown_name("chapter", str(chapter), [str(number) for number in chapters])
    namer = _Namer(chapters)
    with _Disk(folder) as disk:
        items = disk.walk()
        if not any(item.kind != "other" for item in items):
            raise ValueError(
                f"folder={str(folder)!r} holds no notebook (.ipynb or .md) and no zip."
            )
        oddities: list[str] = []
        placed: list[_Placed] = []
        _place(items, 0, namer, placed, oddities)
        people, clashes = _identify(placed)
        oddities += clashes
        wanted = _wanted(students, people)
        submissions: list[Submission] = []
        for person in sorted(people, key=lambda person: person.student):
            if person in wanted:
                reader = _Reader(disk, namer, chapters, person)
                submissions += reader.read(people[person])
                oddities += reader.oddities
    kept = [s for s in submissions if not only_chapters or s.chapter in only_chapters]
    if len(oddities) > _MAX_ODDITIES:
        more = len(oddities) - _MAX_ODDITIES
        oddities = [*oddities[:_MAX_ODDITIES], f"and {more} more lines like these"]
    return Collected(tuple(kept), tuple(oddities))


# Files


class _RefusedError(Exception):
    """Why a file cannot be taken; the text goes on after the file's name."""


@dataclasses.dataclass(frozen=True)
class _Item:
    """A file that was found, read by ``read(budget)`` when it is its turn.

    ``parts`` are the names of the folders and zips that it lies in, then its own; ``zip_at`` is the
    place of the zip among them, with the entry's time in ``entry_time``.
    """

    file: str
    parts: tuple[str, ...]
    read: "Callable[[_Budget], bytes]"
    time: datetime | None
    entry_time: datetime | None = None
    zip_at: int | None = None
    refused: str | None = None

    @property
    def kind(self) -> _Kind:
        return _kind(self.parts[-1])


@dataclasses.dataclass
class _Budget:
    """How many bytes of a student's zips may still be unpacked, and how many files read."""

    left: int
    files: int


_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")  # Unicode's categories
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_SKIPPED = {"__macosx", "thumbs.db", "desktop.ini"}
_OF_TOOLS = {".git", ".idea", ".ipynb_checkpoints", ".vscode"}


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SKIPPED


def _may_be_of_a_student(entry: "os.DirEntry[str]") -> bool:
    is_hidden = entry.name.startswith(".") and entry.name not in _OF_TOOLS
    return is_hidden and entry.is_dir(follow_symlinks=False)


def _kind(name: str) -> _Kind:
    suffix = _split_name(name)[1].casefold()
    kinds: dict[str, _Kind] = {".ipynb": "ipynb", ".md": "md", ".zip": "zip"}
    return kinds.get(suffix, "other")


def _split_name(name: str) -> tuple[str, str]:
    """Stem and suffix; browsers save a notebook as ``x.ipynb.txt`` or ``x.ipynb.json``."""
    if name.casefold().endswith((".ipynb.txt", ".ipynb.json")):
        name = name.rpartition(".")[0]
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def _whole_second(stamp: int) -> datetime | None:
    with contextlib.suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(stamp, UTC)
    return None


def _nothing(budget: _Budget) -> bytes:
    raise _RefusedError("cannot be read")


class _Disk:
    """The folder of submissions: no link in it is ever followed, whatever changes meanwhile."""

    _OPEN_ZIPS = 16

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = -1
        self._zips: dict[tuple[str, ...], zipfile.ZipFile] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Disk":
        self._root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        os.close(self._root)

    def walk(self) -> list[_Item]:
        """Every file below the folder, the entries of zips included, sorted by path."""
        items: list[_Item] = []
        self._walk(self._root, (), items)
        return items

    def _walk(self, folder: int, parents: tuple[str, ...], items: list[_Item]) -> None:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if not _is_skipped(entry.name) or (not parents and _may_be_of_a_student(entry))
            )
        for name in names:
            parts = (*parents, name)
            shown = "/".join(_visible(part) for part in parts)
            try:
                if _is_skipped(name):
                    raise _RefusedError("begins with a dot: give the folder another name")
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                mode = found.st_mode
                time = _whole_second(found.st_mtime_ns // 10**9)
                if stat.S_ISLNK(mode):
                    raise _RefusedError("is a symbolic link, which is not followed")
                if stat.S_ISDIR(mode):
                    if len(parts) > MAX_DEPTH:
                        raise _RefusedError(f"lies more than {MAX_DEPTH} folders deep")
                    with self._open(name, os.O_DIRECTORY, folder) as inner:
                        self._walk(inner, parts, items)
                elif not stat.S_ISREG(mode):
                    raise _RefusedError("is a device, pipe or socket and no file")
                elif _kind(name) == "zip":
                    items += self._zip_items(parts, shown, time)
                else:
                    items.append(_Item(shown, parts, self._reader(parts), time))
            except (_RefusedError, OSError) as error:
                items.append(_Item(shown, parts, _nothing, None, refused=_reason(error)))

    @contextlib.contextmanager
    def _open(self, name: str, flags: int, folder: int) -> Iterator[int]:
        # Without O_NONBLOCK, opening a pipe that took the file's place would wait for ever.
        flags |= os.O_RDONLY | os.O_NONBLOCK | _NO_FOLLOW
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open(self, parts: tuple[str, ...], limit: int) -> io.BufferedReader:
        """A regular file of at most ``limit`` bytes.

        Raises:
            _RefusedError: it is no such file.
            OSError: it cannot be opened.
        """
        with contextlib.ExitStack() as stack:
            folder = self._root
            for name in parts[:-1]:
                folder = stack.enter_context(self._open(name, os.O_DIRECTORY, folder))
            descriptor = stack.enter_context(self._open(parts[-1], 0, folder))
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _RefusedError("is no regular file")
            _check_size(found.st_size, limit)
            return os.fdopen(os.dup(descriptor), "rb")

    def _reader(self, parts: tuple[str, ...]) -> Callable[[_Budget], bytes]:
        def read(budget: _Budget) -> bytes:
            with self.open(parts, MAX_FILE) as file:
                data = file.read(MAX_FILE + 1)
            _check_size(len(data), MAX_FILE)
            return data

        return read

    def _zip_items(self, parts: tuple[str, ...], shown: str, time: datetime | None) -> list[_Item]:
        """The entries of a zip, or the zip itself, refused."""
        try:
            entries = self._zip(parts).infolist()
        except (_RefusedError, OSError) as error:
            return [_Item(shown, parts, _nothing, time, refused=_reason(error))]

        def reader(index: int) -> Callable[[_Budget], bytes]:
            def read(budget: _Budget) -> bytes:
                archive = self._zip(parts)
                if index >= len(archive.infolist()):
                    raise _RefusedError("changed while it was read")
                return _unpack(archive, archive.infolist()[index], budget)

            return read

        return _entries(entries, parts, shown, time, reader)

    def _zip(self, parts: tuple[str, ...]) -> zipfile.ZipFile:
        """The zip, open; the last few stay open, since each student's files come from several."""
        if parts not in self._zips:
            if len(self._zips) >= self._OPEN_ZIPS:
                self._stack.close()
                self._zips.clear()
            with contextlib.ExitStack() as stack:
                file = stack.enter_context(self.open(parts, MAX_ZIP))
                self._zips[parts] = stack.enter_context(_open_zip(file, MAX_ZIP_ENTRIES))
                self._stack.push(stack.pop_all())
        return self._zips[parts]


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _RefusedError(f"is larger than {_megabytes(limit)}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _reason(error: BaseException) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or type(error).__name__}"
    return f"cannot be read ({type(error).__name__})"


# Zips

_DAMAGED = "is damaged, or no zip at all"
_CENTRAL = b"PK\x01\x02"  # each entry of the list at a zip's end begins with this


def _open_zip(file: io.BufferedIOBase, entries: int) -> zipfile.ZipFile:
    """Open a zip of at most so many entries.

    Raises:
        _RefusedError: the list is too long, or it is no zip.
        OSError: it cannot be read.
    """
    count, tail = 0, b""
    # Counted before zipfile reads the list, which makes an object of half a kilobyte of each.
    while block := file.read(1 << 20):
        count += (tail + block).count(_CENTRAL)
        tail = block[-len(_CENTRAL) + 1 :]
    if count > entries:
        raise _RefusedError(f"holds more than {entries} files")
    file.seek(0)
    try:
        return zipfile.ZipFile(file)
    except Exception:  # the file may hold anything, and zipfile believes much of it
        raise _RefusedError(_DAMAGED) from None


def _entries(
    entries: Sequence[zipfile.ZipInfo],
    parents: tuple[str, ...],
    shown: str,
    time: datetime | None,
    reader: Callable[[int], Callable[[_Budget], bytes]],
) -> list[_Item]:
    items = []
    for index, entry in enumerate(entries):
        name = _entry_name(entry).replace("\\", "/")
        if entry.is_dir() or name.endswith("/"):
            continue
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or any(_is_skipped(part) for part in parts if part != ".."):
            continue
        refused = _path_refused(name, parts)
        inner = "/".join(_visible(part) for part in parts)
        if refused is not None:
            parts = ["(refused)"]  # such a path is not to say whose the entry is
        items.append(
            _Item(
                file=f"{shown}!{inner[:MAX_PATH]}",
                parts=(*parents, *parts),
                read=reader(index),
                time=time,
                entry_time=_entry_time(entry),
                zip_at=len(parents) - 1,
                refused=refused or _entry_refused(entry),
            )
        )
    return sorted(items, key=lambda item: item.parts)


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """macOS writes UTF-8 without saying so."""
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return entry.filename.encode("cp437").decode("utf-8")
    return entry.filename


def _path_refused(name: str, parts: Sequence[str]) -> str | None:
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has a name that leads out of its zip"
    if len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        return f"has a path of more than {MAX_PATH} characters or {MAX_DEPTH} folders"
    return None


def _entry_refused(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or device in its zip and no file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    return None


def _entry_time(entry: zipfile.ZipInfo) -> datetime | None:
    """The time in UTC where the entry has it, else the one of its list, which is local."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 0x5455 and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return _whole_second(struct.unpack_from("<i", extra, 5)[0])
        extra = extra[4 + size :]
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime(*entry.date_time).astimezone(UTC)
    return None


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: _Budget) -> bytes:
    """The content of an entry, in memory.

    Raises:
        _RefusedError: it is too large, too well packed, packed in an unknown way, or damaged.
    """
    # zipfile unpacks other methods by the block, however large the block becomes.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _RefusedError("is packed in a way other than deflate")
    _check_size(entry.file_size, MAX_FILE)
    if entry.file_size > max(MAX_RATIO * entry.compress_size, 1_000_000):
        raise _RefusedError(f"is packed more than {MAX_RATIO} to 1, as a zip bomb is")
    if entry.file_size > budget.left:
        limit = _megabytes(MAX_UNZIPPED)
        raise _RefusedError(f"was left out: the zips of one student may unpack to {limit}")
    budget.left -= entry.file_size
    try:
        with archive.open(entry) as file:
            data = file.read(MAX_FILE + 1)
    except Exception:  # the zip may hold anything
        raise _RefusedError(_DAMAGED) from None
    _check_size(len(data), MAX_FILE)
    return data


# Students


@dataclasses.dataclass(frozen=True)
class _Who:
    """What a name says of a student. ``number`` is the LMS's, ``rest`` the file's own name."""

    name: str
    lms: str = ""
    number: str = ""
    rest: str = ""
    late: bool = False
    time: datetime | None = None


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A file of a student; ``depth`` is the place of the part that says so."""

    item: _Item
    who: _Who
    depth: int

    @property
    def name(self) -> str:
        """The file's own name, without what the LMS put before it."""
        is_file = self.depth == len(self.item.parts) - 1
        return self.who.rest if is_file and self.who.rest else self.item.parts[-1]

    @property
    def submitted(self) -> datetime | None:
        if self.who.time is not None:
            return self.who.time
        zip_at = self.item.zip_at
        # A zip that lies within the student's part is the student's own, and so are its times.
        outside = zip_at is not None and zip_at < self.depth
        return self.item.entry_time if outside and self.item.entry_time else self.item.time


@dataclasses.dataclass(frozen=True)
class _Person:
    student: str
    name: str


_MOODLE = re.compile(r"(?P<name>.+?)_(?P<number>\d+)_assignsubmission_[a-z]+(?:_(?P<rest>.*))?")
# Ids have no leading zero, so `anna_03_...` is none.
_CANVAS = re.compile(
    r"(?P<name>[^_]+)(?P<late>_LATE)?_(?P<number>[1-9]\d*)_[1-9]\d*_(?P<rest>.+)", re.I
)
_BLACKBOARD = re.compile(
    r".+_(?P<name>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<rest>.+))?"
)


def _lms_name(name: str) -> _Who | None:
    """The student in a name that Moodle, Canvas or Blackboard made."""
    name = name[:MAX_PATH]
    if match := _MOODLE.fullmatch(name):
        return _Who(_nfc(match["name"]), "moodle", match["number"], match["rest"] or "")
    if match := _CANVAS.fullmatch(name):
        late = match["late"] is not None
        return _Who(_nfc(match["name"]), "canvas", match["number"], match["rest"], late)
    if match := _BLACKBOARD.fullmatch(_split_name(name)[0]):
        time = None
        with contextlib.suppress(ValueError):
            time = datetime.strptime(match["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
        rest = match["rest"] + _split_name(name)[1] if match["rest"] else ""
        return _Who(_nfc(match["name"]), "blackboard", "", rest, time=time)
    return None


def _nfc(name: str) -> str:
    """macOS writes accents as characters of their own."""
    return unicodedata.normalize("NFC", name)


@dataclasses.dataclass(frozen=True)
class _Named:
    """What a file's name says: its chapter, its version and what is left: the student."""

    chapter: int | None
    version: int
    rest: str


# Words that say what a folder holds, or what a file is, and not whose it is.
_PLAIN_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        abgabe abgaben all assignment assignments attempt batch blackboard canvas ch chapter
        chapters class copy course download downloads exercise exercises export exports file
        files final gradebook handin homework homeworks hw kapitel kopie latest license lms
        moodle new notebook notebooks project readme sheet solution solutions students
        submission submissions submitted task untitled upload uploads week weeks woche
        """,
    )
)
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_VERSIONS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"[ _-]{0,3}\((?P<n>\d{1,6})\)$",
        r"[ _.-]{1,3}v(?:ersion)?[ _.-]?(?P<n>\d{1,6})$",
        r"[ _-]{1,3}(?:copy|kopie)[ _-]?(?P<n>\d{0,6})$",
        r"^(?:copy of|kopie von|copie de|copia de|copy_of|kopie_von)[ _-]+",
        r"[ _-]{1,3}(?:final|latest|neu|new|abgabe|submission)$",
    )
)


class _Namer:
    """Reads the names of files: the chapters' names are the course's."""

    def __init__(self, chapters: Iterable[int]) -> None:
        numbered, numbers, bare = [], [], []
        for number in sorted(chapters):
            words = NOTEBOOKS.get(number, "").split("_")
            title = "[-_ ]?".join(words)
            after = r"(?![^\W\d_])(?:-(?P<n>\d{1,6})$)?"
            if title:
                numbered.append((number, rf"(?<!\d)0?{number}[-_ .]{{0,3}}{title}{after}"))
                bare.append((number, rf"(?<![^\W_]){title}{after}"))
            prefix = r"(?:ch|chapter|kap|kapitel|week|woche|hw|ex|exercises?|assignment|ps)[-_ ]?0?"
            start, end = r"(?<![^\W_])", r"(?![^\W_])"
            numbers.append((number, rf"{start}(?:{number:02d}|{prefix}{number}){end}"))
        self._patterns = [
            (number, re.compile(pattern, re.I)) for number, pattern in numbered + numbers + bare
        ]

    def read(self, name: str) -> _Named:
        """What a name says; the suffix of a notebook or zip is left out."""
        name = name[-_MAX_STEM:]
        stem, version = _split_name(name)[0] if _kind(name) != "other" else name, 0
        for _ in range(3):  # `Copy of 03_gpt (1) - Copy`
            for pattern in _VERSIONS:
                if match := pattern.search(stem):
                    version = max(version, int(match.groupdict().get("n") or 1))
                    stem = stem[: match.start()] + stem[match.end() :]
        for number, pattern in self._patterns:
            if match := pattern.search(stem):
                version = max(version, int(match.groupdict().get("n") or 0))
                around = (stem[: match.start()], stem[match.end() :])
                rest = "_".join(_bare(part) for part in around if not _is_plain(part))
                return _Named(number, version, rest)
        return _Named(None, version, "" if _is_plain(stem) else _bare(stem))

    def is_plain(self, name: str) -> bool:
        """Whether the name of a folder or zip says only what it holds."""
        # A folder whose name is a number may be a student's.
        words = _WORDS.findall(name.casefold().removesuffix(".zip"))
        return not self.read(name).rest and not all(word.isdigit() for word in words)


def _is_plain(text: str) -> bool:
    words = _WORDS.findall(text.casefold())
    letters = [word for word in words if not word.isdigit()]
    return set(letters) <= _PLAIN_WORDS and (bool(letters) or not words)


def _bare(text: str) -> str:
    return text.strip(" _-.,")


def _place(
    items: Sequence[_Item],
    depth: int,
    namer: _Namer,
    placed: list[_Placed],
    oddities: list[str],
    in_submitted: bool = False,
) -> None:
    """Find whose the files are, from the part at ``depth`` of their paths on.

    ``in_submitted``: it is nbgrader's folder, which holds a folder for each student.
    """
    groups: dict[tuple[str, bool], list[_Item]] = {}
    for item in items:
        key = (item.parts[depth], len(item.parts) == depth + 1)
        groups.setdefault(key, []).append(item)
    shaped: dict[str, list[_Item]] = {}
    plain_kinds = set()
    for (part, is_file), group in sorted(groups.items()):
        who = _Who(_nfc(part)) if in_submitted and not is_file else _lms_name(part)
        if who is None and is_file:
            rest = namer.read(part).rest if group[0].kind != "other" else ""
            who = _Who(_nfc(rest)) if rest else None
            if who is None:
                oddities += [_ownerless(item) for item in group]
                continue
        elif who is None and namer.is_plain(part):
            inner = part.casefold() == "submitted"
            _place(group, depth + 1, namer, placed, oddities, in_submitted=inner)
            continue
        elif who is None and _is_export(group, depth + 1):
            shaped[part] = group
            continue
        elif who is None:
            plain_kinds.add(_kind(part) == "zip")
            who = _Who(_nfc(_owner(part, namer)))
        placed += [_Placed(item, who, depth) for item in group]
    for part, group in shaped.items():
        path = group[0].parts[: depth + 1]
        shown = "/".join(_visible(name) for name in path)
        if (_kind(part) == "zip") in plain_kinds:
            oddities.append(
                f"{shown}: looks like an LMS's export but lies beside students' own, so it was "
                "read as one student's; put it into a folder 'exports' if it is one"
            )
            who = _Who(_nfc(_owner(part, namer)))
            placed += [_Placed(item, who, depth) for item in group]
        else:
            names = {_lms_name(item.parts[depth + 1]) for item in group}
            people = len({(who.name, who.number) for who in names if who is not None})
            oddities.append(f"{shown}: read as an LMS's export of {people} students")
            _place(group, depth + 1, namer, placed, oddities)


def _owner(part: str, namer: _Namer) -> str:
    """The student that a folder or zip is named after."""
    return part if _kind(part) != "zip" else namer.read(part).rest or _split_name(part)[0]


def _is_export(group: Sequence[_Item], depth: int) -> bool:
    files = [item for item in group if item.kind != "other"]
    return bool(files) and all(
        len(item.parts) > depth and _lms_name(item.parts[depth]) is not None for item in files
    )


def _ownerless(item: _Item) -> str:
    if item.refused is not None:
        return f"{item.file}: {item.refused}"
    if item.kind == "other":
        return f"{item.file}: is no notebook and was left out"
    return (
        f"{item.file}: nothing says whose it is, so it was left out; "
        "put it into a folder with the student's name"
    )


def _identify(placed: Sequence[_Placed]) -> tuple[dict[_Person, list[_Placed]], list[str]]:
    """Who the students are: each with an id of their own; and what is odd about their names."""
    # Moodle numbers a student anew in every assignment; Canvas does not.
    numbers: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for one in placed:
        scope = one.item.parts[: one.depth] if one.who.lms == "moodle" else ()
        if one.who.number:
            numbers.setdefault((one.who.name, scope), set()).add(one.who.number)
    shared = {name for (name, _), found in numbers.items() if len(found) > 1}
    files: dict[tuple[str, str], list[_Placed]] = {}
    for one in placed:
        number = one.who.number if one.who.name in shared else ""
        files.setdefault((one.who.name, number), []).append(one)
    natural = {key: _safe_id("-".join(filter(None, key))) for key in sorted(files)}
    taken = {_folded(student) for student in natural.values()}
    used: set[str] = set()
    last: dict[str, int] = {}  # the last number given to an id
    people: dict[_Person, list[_Placed]] = {}
    oddities = []
    for key, student in natural.items():
        if _folded(student) in used:
            count = last.get(student, 1) + 1
            while _folded(_with_suffix(student, count)) in taken:
                count += 1
            last[student] = count
            other, student = student, _with_suffix(student, count)
            taken.add(_folded(student))
            oddities.append(
                f"{_visible(key[0])[:MAX_NAME]}: another student has the id {other!r}, "
                f"so this one's is {student!r}"
            )
        used.add(_folded(student))
        people[_Person(student, _shown_name(key[0]))] = files[key]
        if key[1]:
            oddities.append(f"{student}: more than one student has this name; told by number")
    return people, oddities


def _with_suffix(student: str, count: int) -> str:
    return _clip(student, len(f"-{count}")) + f"-{count}"


def _folded(student: str) -> str:
    """Equal for ids that some file system takes for the same name."""
    return unicodedata.normalize("NFKC", student).casefold()


def _safe_id(name: str) -> str:
    kept = "".join(
        c if c in "._@+-" or unicodedata.category(c)[0] in "LM" or c.isdecimal() else "_"
        for c in _nfc(name[:MAX_PATH])
    )
    kept = re.sub("__+", "_", kept).lstrip(".-")
    return _clip(kept.rstrip(".") or "student")


def _clip(student: str, room: int = 0) -> str:
    clipped = student[: MAX_ID - room].encode()[: _MAX_ID_BYTES - room].decode(errors="ignore")
    return clipped.rstrip(".")


def _shown_name(name: str) -> str:
    # Only letters' own joiners may stay of the format characters; bidi controls reorder a page.
    kept = "".join(c for c in name if unicodedata.category(c) not in _UNSEEN or c in "\u200c\u200d")
    return " ".join(kept.split())[:MAX_NAME] or "(no name)"


def _visible(text: str) -> str:
    """The text with a mark in place of each character that cannot be seen."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in _UNSEEN else c for c in text)


def _wanted(students: Collection[str], people: Collection[_Person]) -> set[_Person]:
    wanted = set()
    for asked in students:
        found = {person for person in people if asked == person.student}
        found = found or {person for person in people if asked == person.name}
        if not found:
            raise unknown_name("student", asked, [person.student for person in people])
        wanted |= found
    return wanted if students else set(people)


# Notebooks


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A cell, in nbformat's or MyST's; ``checks`` are the ids that it checks."""

    source: str
    code: bool = True
    exercise_id: str | None = None
    too_large: bool = False
    checks: tuple[str, ...] = ()


_ID = re.compile(r"\d\d\.[a-z][a-z0-9_]{0,80}")
# Found in the text: a parser of Python can be crashed by what it parses.
_CHECK = re.compile(r"""\bcheck\s*\(\s*(["'])(\d\d\.[a-z][a-z0-9_]{0,80})\1""")
_HEADER_ID = re.compile(r"""\b(?:id|grade_id)["']?:\s*["']?(\d\d\.[a-z][a-z0-9_]{0,80})""")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADER_LINES = 100
_SURROGATES = re.compile("[\ud800-\udfff]")


def _read_cells(data: bytes, kind: _Kind, oddities: list[str]) -> list[_Cell]:
    """The cells of a notebook.

    Raises:
        _RefusedError: it is none, or breaks a limit.
    """
    if not data.strip():
        raise _RefusedError("is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(f"is no UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise _RefusedError("is no text: it holds NUL bytes")
    cells = _ipynb_cells(text, oddities) if kind == "ipynb" else _markdown_cells(text, oddities)
    if len(cells) > MAX_CELLS:
        raise _RefusedError(f"has {len(cells)} cells, more than {MAX_CELLS}")
    return cells


def _ipynb_cells(text: str, oddities: list[str]) -> list[_Cell]:
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise _RefusedError(f"is no notebook: it holds more than {MAX_BRACKETS} lists and objects")
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise _RefusedError("is no notebook: it is nested too deeply") from None
    except MemoryError:
        raise _RefusedError("does not fit into memory") from None
    except ValueError as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise _RefusedError(f"is no notebook: it is no JSON{where}") from None
    found = notebook.get("cells") if isinstance(notebook, dict) else None
    if isinstance(notebook, dict) and not isinstance(found, list):  # nbformat 3
        sheets = notebook.get("worksheets")
        sheets = sheets if isinstance(sheets, list) else []
        inner = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        found = [cell for cells in inner if isinstance(cells, list) for cell in cells]
        found = found if inner else None
    if not isinstance(found, list):
        raise _RefusedError("is no notebook: it has no list of cells")
    if len(found) > MAX_CELLS:
        raise _RefusedError(f"has {len(found)} cells, more than {MAX_CELLS}")
    return [_ipynb_cell(cell, oddities) for cell in found]


def _ipynb_cell(cell: object, oddities: list[str]) -> _Cell:
    if not isinstance(cell, dict):
        oddities.append("a cell that is no cell was left out")
        return _Cell("", code=False)
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        oddities.append("a cell whose source is no text was left out")
        source = ""
    code = cell.get("cell_type") == "code"
    return _cell(source, code, _marked_id(cell.get("metadata"), oddities), oddities)


def _marked_id(metadata: object, oddities: list[str]) -> str | None:
    """The exercise's id in a cell's metadata: the course's, else nbgrader's."""
    if not isinstance(metadata, dict):
        return None
    marked, graded = metadata.get("exercise"), metadata.get("nbgrader")
    identifier = marked.get("id") if isinstance(marked, dict) else None
    if isinstance(identifier, str) and _ID.fullmatch(identifier):
        return identifier
    if marked is not None:
        oddities.append("a cell is marked as an exercise without a proper id")
    identifier = graded.get("grade_id") if isinstance(graded, dict) else None
    if isinstance(identifier, str) and _ID.fullmatch(identifier):
        return identifier
    return release.exercise_id(identifier)


def _cell(source: str, code: bool, exercise_id: str | None, oddities: list[str]) -> _Cell:
    if not code:
        return _Cell("", code, exercise_id)
    # A character takes at most four bytes; the exact size is worked out only where it matters.
    if len(source) > MAX_CELL or (
        len(source) > MAX_CELL // 4 and len(source.encode("utf-8", "replace")) > MAX_CELL
    ):
        if exercise_id is None:
            oddities.append(f"a cell with more than {MAX_CELL // 1000} kB was left out")
        return _Cell("", code, exercise_id, too_large=True)
    plain = source.replace("\r\n", "\n").replace("\r", "\n")
    repaired = _SURROGATES.sub("\ufffd", plain)
    if repaired != plain:
        oddities.append("a cell holds half characters, which were replaced")
    if "\0" in repaired:
        oddities.append("a cell holds NUL characters, which Python cannot read")
    checks = tuple(dict.fromkeys(match[2] for match in _CHECK.finditer(repaired)))
    return _Cell(repaired, code, exercise_id, checks=checks)


def _markdown_cells(text: str, oddities: list[str]) -> list[_Cell]:
    """The code cells of MyST Markdown, by one pass over the lines, whatever they hold."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    cells: list[_Cell] = []
    fence = ""
    body: list[str] | None = None
    for line in lines:
        match = _FENCE.match(line)
        if fence:
            closes = match and match[1].startswith(fence) and not line.strip().strip(fence[0])
            if closes and body is not None:
                cells.append(_markdown_cell(body, oddities))
            elif body is not None:
                body.append(line)
            fence, body = ("", None) if closes else (fence, body)
        elif match and not (match[1][0] == "`" and "`" in line[match.end() :]):
            fence = match[1]
            body = [] if line[match.end() :].startswith("{code-cell}") else None
        if len(cells) > MAX_CELLS:
            raise _RefusedError(f"has more than {MAX_CELLS} cells")
    if fence:
        oddities.append("its last fence is not closed")
    if body is not None:
        cells.append(_markdown_cell(body, oddities))
    if not cells:
        raise _RefusedError("is no notebook: it has no code cell")
    return cells


def _markdown_cell(body: list[str], oddities: list[str]) -> _Cell:
    end = 0
    if body and body[0].strip() == "---":
        ends = (i for i, line in enumerate(body[1:_HEADER_LINES], 1) if line.strip() == "---")
        end = next(ends, -1) + 1
    else:
        while end < min(len(body), _HEADER_LINES) and re.match(r":[\w-]+:", body[end]):
            end += 1
    header = "\n".join(line[:MAX_PATH] for line in body[:end])
    marked = _HEADER_ID.search(header)
    source = "\n".join(body[end:]).strip("\n")
    return _cell(source, True, marked[1] if marked else None, oddities)


# Answers

_PYTHON_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")  # their body is plain Python
_STUB_VALUE = re.compile(r"^\w+ ?= ?\.\.\. *(?:#.*)?$", re.M)
_DEFINED = re.compile(r"^(?:async +def|def|class) +(\w+)|^([^\W\d]\w*) *(?::[^=\n]*)?=(?!=)", re.M)
_TRIVIAL_LINE = re.compile(r"\s*(?:$|#|import\b|from\b|(?:\w+\.)?check\s*\()")


def _does_nothing(source: str) -> bool:
    """Whether a cell holds no Python: blank, comments, magics."""
    lines = [line.strip() for line in source.split("\n") if line.strip()]
    if lines and lines[0].startswith("%%"):
        return not lines[0].split()[0].startswith(_PYTHON_MAGICS)
    return all(line[0] in "#%!?" or line[-1] == "?" for line in lines)


def _stubs_left(exercise_id: str, source: str) -> int:
    """How many places a learner still has to fill in; a blank cell counts as all of them."""
    if not source.strip():
        return MAX_CELL
    raised = sum(source.count(f"NotImplementedError({q}{exercise_id}{q})") for q in "\"'")
    return raised + len(_STUB_VALUE.findall(source))


def _defined(source: str) -> set[str]:
    return {match[1] or match[2] for match in _DEFINED.finditer(source)}


class _Answers:
    """Finds the answers to a chapter's exercises among the cells of a notebook."""

    def __init__(self, cells: Sequence[_Cell], ids: Sequence[str]) -> None:
        self._cells = cells
        self.answers: dict[str, Answer] = {}
        self.oddities: list[str] = []
        self.used: set[int] = set()
        places: dict[str, int] = {}
        missing = [identifier for identifier in ids if not self._find(identifier, places)]
        if missing and len(missing) == len(ids):
            self.oddities.append("it has no cell of this chapter's exercises")
        elif missing:
            self.oddities.append(f"no cell answers {', '.join(missing)}")
        if list(places.values()) != sorted(places.values()):
            order = sorted(places, key=lambda identifier: places[identifier])
            self.oddities.append(f"the exercises stand in another order: {', '.join(order)}")
        checked = {identifier for cell in cells for identifier in cell.checks}
        unchecked = [identifier for identifier in self.answers if identifier not in checked]
        if unchecked:
            self.oddities.append(f"the check was deleted of {', '.join(unchecked)}")

    def _find(self, exercise_id: str, places: dict[str, int]) -> bool:
        marked = [i for i, cell in enumerate(self._cells) if cell.exercise_id == exercise_id]
        code = [i for i in marked if self._cells[i].code and not self._cells[i].too_large]
        if any(self._cells[i].too_large for i in marked):
            kilobytes = MAX_CELL // 1000
            self.oddities.append(f"{exercise_id}: a cell of more than {kilobytes} kB was left out")
        if any(not self._cells[i].code for i in marked):
            self.oddities.append(f"{exercise_id}: a cell marked with this id is no code cell")
        found = self._from_marked(exercise_id, code) if code else self._unmarked(exercise_id)
        if found is None:
            return False
        indices, oddities = found
        source = "\n\n".join(self._cells[i].source.strip("\n") for i in indices)
        if len(source.encode()) > MAX_CELL:
            kilobytes = MAX_CELL // 1000
            self.oddities.append(f"{exercise_id}: its cells have more than {kilobytes} kB")
            return False
        self.used |= set(indices) | set(code)
        places[exercise_id] = indices[0]
        self.answers[exercise_id] = Answer(exercise_id, source, tuple(oddities))
        return True

    def _from_marked(self, exercise_id: str, code: list[int]) -> tuple[list[int], list[str]]:
        oddities: list[str] = []
        groups = self._groups(exercise_id, code)
        group = groups[-1]
        if len(groups) > 1:
            texts = ["\n\n".join(self._cells[i].source for i in g).strip() for g in groups]
            left = [_stubs_left(exercise_id, text) for text in texts]
            best = [i for i, count in enumerate(left) if count == min(left)]
            group = groups[best[-1]]
            if len(set(texts)) == 1:
                taken = "all alike"
            elif len({texts[i] for i in best}) == 1:
                taken = "the one that was filled in was taken"
            else:
                taken = "they differ, and the last was taken"
            oddities.append(f"{len(groups)} cells have this exercise's id: {taken}")
        if len(group) > 1:
            oddities.append(f"its cell was split: {len(group)} cells were joined")
        appended = self._appended(exercise_id, group)
        if appended:
            plural = "cells" if len(appended) > 1 else "cell"
            oddities.append(
                f"{len(appended)} unmarked {plural} between its cell and its check "
                f"{'were' if len(appended) > 1 else 'was'} taken with it"
            )
        return sorted([*group, *appended]), oddities

    def _groups(self, exercise_id: str, code: list[int]) -> list[list[int]]:
        """Marked cells, those together that are parts of one.

        Jupyter gives both halves of a split cell its metadata. Halves define different names, or
        the second goes on inside a definition; copies define the same names.
        """
        groups: list[list[int]] = []
        for index in code:
            source = self._cells[index].source
            group = groups[-1] if groups else []
            between = self._cells[group[-1] : index] if group else []
            names = {name for i in group for name in _defined(self._cells[i].source)}
            follows = bool(group) and not any(
                cell.checks or cell.exercise_id not in (None, exercise_id) for cell in between
            )
            goes_on = source.lstrip("\n")[:1] in (" ", "\t")
            if follows and source.strip() and (goes_on or names.isdisjoint(_defined(source))):
                group.append(index)
            else:
                groups.append([index])
        return groups

    def _appended(self, exercise_id: str, group: list[int]) -> list[int]:
        """The unmarked code cells up to the exercise's check."""
        if exercise_id in self._cells[group[-1]].checks:
            return []
        found: list[int] = []
        for index in range(group[0], len(self._cells)):
            cell = self._cells[index]
            if index in group or not cell.code:
                continue
            if exercise_id in cell.checks and cell.exercise_id is None:
                return found
            if cell.checks or cell.exercise_id is not None:
                return []
            if not cell.too_large and not _does_nothing(cell.source):
                found.append(index)
        return []

    def _unmarked(self, exercise_id: str) -> tuple[list[int], list[str]] | None:
        """Where the mark was lost: the code cell before the first check."""
        checked = (i for i, cell in enumerate(self._cells) if exercise_id in cell.checks)
        check = next(checked, None)
        if check is None:
            return None
        host = self._cells[check].exercise_id
        if host is not None:
            return [check], [f"it was taken from the cell of {host}, which checks it too"]
        for index in reversed(range(check)):
            cell = self._cells[index]
            if cell.checks or cell.exercise_id is not None:
                break
            if cell.code and not cell.too_large and not _does_nothing(cell.source):
                return [index], ["its cell lost its mark: the cell before its check was taken"]
        lines = self._cells[check].source.split("\n")
        if all(_TRIVIAL_LINE.match(line) for line in lines):
            return None
        return [check], ["its cell lost its mark: the cell with its check was taken"]

    def extras(self) -> tuple[str, ...]:
        """The other code cells, as many as the limit allows."""
        kept, size = [], 0
        for index, cell in enumerate(self._cells):
            other = cell.code and not cell.checks and cell.exercise_id is None
            if not other or index in self.used or not cell.source.strip():
                continue
            size += len(cell.source)
            if size > MAX_EXTRAS:
                self.oddities.append(f"other cells beyond {_megabytes(MAX_EXTRAS)} were left out")
                break
            kept.append(cell.source)
        return tuple(kept)


# Attempts


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """What decides which attempt counts, compared field by field; the greatest does."""

    worth: int  # 2 with answers, 1 without, 0 refused
    submitted: datetime
    version: int
    is_ipynb: bool
    file: str

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.worth, self.submitted, self.version, self.is_ipynb, self.file)

    @property
    def order(self) -> tuple[Any, ...]:
        return self.key[1:]


_NEVER = datetime.min.replace(tzinfo=UTC)
_PAIR = 10.0  # seconds within which the two files of a pair are saved


class _Reader:
    """Reads one student's files."""

    def __init__(
        self,
        disk: _Disk,
        namer: _Namer,
        chapters: Mapping[int, Sequence[str]],
        person: _Person,
    ) -> None:
        self._disk = disk
        self._namer = namer
        self._chapters = chapters
        self._person = person
        self._budget = _Budget(MAX_UNZIPPED, MAX_FILES)
        self._chapter_of = {i: number for number, ids in chapters.items() for i in ids}
        self._attempts: dict[int, list[tuple[_Attempt, str | None]]] = {}
        self._best: dict[int, tuple[_Attempt, Submission]] = {}
        self._unsaid = 0
        self.oddities: list[str] = []

    def _say(self, line: str) -> None:
        if len(self.oddities) < _MAX_LINES:
            self.oddities.append(line)
        else:
            self._unsaid += 1

    def read(self, placed: Sequence[_Placed]) -> list[Submission]:
        """The submissions that count; ``oddities`` is about the files that belong to none."""
        stamps = {
            one.item.parts: one.item
            for one in placed
            if one.item.parts[-1] == "timestamp.txt" and one.item.zip_at is None
        }
        times = {one.item.parts: one.submitted or _NEVER for one in placed}
        other: list[str] = []
        for one in sorted(placed, key=lambda one: one.item.file):
            if one.item.kind == "other":
                if one.item.refused is not None:
                    self._say(f"{one.item.file}: {one.item.refused}")
                elif one.item.parts not in stamps:
                    other.append(one.item.file)
                continue
            stamped = self._timestamp(one, stamps)
            submitted = stamped or one.submitted
            effective = submitted or _NEVER
            if one.item.kind == "md" and stamped is None:
                twin = (*one.item.parts[:-1], _split_name(one.item.parts[-1])[0] + ".ipynb")
                saved = times.get(twin, _NEVER)
                if abs((saved - effective).total_seconds()) <= _PAIR:
                    effective = min(saved, effective)
            self._take(one.item, one, submitted, effective)
        if other:
            shown = ", ".join(other[:3]) + (", …" if len(other) > 3 else "")
            left_out = f"{len(other)} files that are no notebooks were left out"
            self._say(f"{self._person.student}: {left_out}: {shown}")
        if self._budget.files < 0:
            self._say(f"{self._person.student}: only {MAX_FILES} notebooks and zips were read")
        if self._unsaid:
            more = f"and {self._unsaid} more lines like these"
            self.oddities.append(f"{self._person.student}: {more}")
        return [self._counted(chapter) for chapter in sorted(self._best)]

    def _timestamp(self, one: _Placed, stamps: Mapping[tuple[str, ...], _Item]) -> datetime | None:
        """nbgrader's own record of when an assignment was handed in."""
        parts, depth = one.item.parts, one.depth
        if one.who.lms or depth == 0 or parts[depth - 1].casefold() != "submitted":
            return None
        item = stamps.get((*parts[: depth + 2], "timestamp.txt"))
        if item is None:
            return None
        try:
            return _parse_timestamp(item.read(self._budget)[:100].decode())
        except (_RefusedError, OSError, ValueError):
            return None

    def _take(
        self, item: _Item, one: _Placed, submitted: datetime | None, effective: datetime
    ) -> None:
        """Read a notebook, or the notebooks in a zip, and keep the best attempts."""
        self._budget.files -= 1
        if self._budget.files < 0:
            return
        is_inner = item is not one.item
        named = self._namer.read(item.parts[-1] if is_inner else one.name)
        oddities = ["the LMS marks it as late"] if one.who.late else []
        try:
            if item.refused is not None:
                raise _RefusedError(item.refused)
            data = item.read(self._budget)
            if item.kind == "zip":
                self._take_zip(data, item, one, submitted, effective)
                return
            cells = _read_cells(data, item.kind, oddities)
        except (_RefusedError, OSError) as error:
            reason = _reason(error)
            chapter = named.chapter or self._folder_chapter(item)
            if chapter is None:
                self._say(f"{item.file}: {reason}")
            else:
                attempt = self._attempt(0, effective, named, item)
                self._offer(chapter, attempt, submitted, oddities, refused=reason)
            return
        fallback = named.chapter or self._folder_chapter(item)
        found = self._chapters_in(cells, named.chapter, fallback, oddities)
        if not found:
            self._say(f"{item.file}: nothing says which chapter it is of")
        for chapter in found:
            answers = _Answers(cells, self._chapters[chapter])
            attempt = self._attempt(2 if answers.answers else 1, effective, named, item)
            self._offer(chapter, attempt, submitted, oddities, answers)

    def _take_zip(
        self,
        data: bytes,
        item: _Item,
        one: _Placed,
        submitted: datetime | None,
        effective: datetime,
    ) -> None:
        if item is not one.item:
            raise _RefusedError("is a zip in a zip in a zip")
        with _open_zip(io.BytesIO(data), MAX_FILES) as archive:
            entries = archive.infolist()

            def reader(index: int) -> Callable[[_Budget], bytes]:
                return lambda budget: _unpack(archive, entries[index], budget)

            for inner in _entries(entries, item.parts, item.file, item.time, reader):
                if inner.kind != "other":
                    self._take(inner, one, submitted, effective)
                elif inner.refused is not None:
                    self._say(f"{inner.file}: {inner.refused}")

    def _folder_chapter(self, item: _Item) -> int | None:
        """The chapter that a folder or zip around a file names, the innermost first."""
        for part in reversed(item.parts[:-1]):
            who = _lms_name(part)
            name = who.rest if who is not None and who.rest else part
            if (chapter := self._namer.read(name).chapter) is not None:
                return chapter
        return None

    def _chapters_in(
        self,
        cells: Sequence[_Cell],
        named: int | None,
        fallback: int | None,
        oddities: list[str],
    ) -> list[int]:
        """The chapters that a notebook counts for.

        The one in its name, or else the one with most of its exercises; and each other of which it
        has half of the exercises: a single cell of another chapter is no attempt at it.
        """
        ids = {c.exercise_id for c in cells if c.code and c.exercise_id is not None}
        ids |= {identifier for cell in cells for identifier in cell.checks}
        unknown = sorted(ids - set(self._chapter_of))
        if unknown:
            shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
            oddities.append(f"it has exercises that the course does not have: {shown}")
        counts = Counter(self._chapter_of[i] for i in ids if i in self._chapter_of)
        if not counts:
            return [fallback] if fallback is not None else []
        main = max(counts, key=lambda chapter: (counts[chapter], -chapter))
        if named is not None and named in counts:
            main = named
        elif named is not None:
            oddities.append(f"its name says chapter {named}, its exercises are of chapter {main}")
        found: list[int] = []
        for chapter in sorted(counts):
            if chapter == main or 2 * counts[chapter] >= len(self._chapters[chapter]):
                found.append(chapter)
            else:
                strays = sorted(i for i in ids if self._chapter_of.get(i) == chapter)
                oddities.append(f"exercises of another chapter do not count: {', '.join(strays)}")
        if len(found) > 1:
            oddities.append(f"it holds the chapters {', '.join(map(str, found))}")
        return found

    def _attempt(self, worth: int, effective: datetime, named: _Named, item: _Item) -> _Attempt:
        return _Attempt(worth, effective, named.version, item.kind == "ipynb", item.file)

    def _offer(
        self,
        chapter: int,
        attempt: _Attempt,
        submitted: datetime | None,
        oddities: Sequence[str],
        answers: _Answers | None = None,
        refused: str | None = None,
    ) -> None:
        self._attempts.setdefault(chapter, []).append((attempt, refused))
        if chapter in self._best and self._best[chapter][0].key >= attempt.key:
            return
        extras = answers.extras() if answers is not None else ()
        own = answers.oddities if answers is not None else []
        submission = Submission(
            student=self._person.student,
            name=self._person.name,
            chapter=chapter,
            file=attempt.file,
            attempt=1,
            attempts=1,
            submitted=submitted,
            answers=dict(answers.answers) if answers is not None else {},
            extras=extras,
            oddities=_compact([*oddities, *own]),
            refused=refused,
        )
        self._best[chapter] = (attempt, submission)

    def _counted(self, chapter: int) -> Submission:
        """The attempt that counts, with what it was chosen from."""
        best, submission = self._best[chapter]
        attempts = sorted(self._attempts[chapter], key=lambda pair: pair[0].order)
        if len(attempts) == 1:
            return submission
        place = next(i for i, (attempt, _) in enumerate(attempts, 1) if attempt is best)
        lines = [f"attempt {place} of {len(attempts)} counts, {_why(best, attempts)}"]
        for attempt, refused in attempts[-_MAX_LINES:]:
            if attempt is not best:
                reason = refused and f"it {refused}"
                if reason is None and attempt.worth < best.worth:
                    reason = "it has no cell of this chapter's exercises"
                lines.append(f"{attempt.file} does not count" + (f": {reason}" if reason else ""))
        return dataclasses.replace(
            submission,
            attempt=place,
            attempts=len(attempts),
            oddities=(*lines, *submission.oddities),
        )


def _why(best: _Attempt, attempts: Sequence[tuple[_Attempt, str | None]]) -> str:
    rivals = [a for a, _ in attempts if a is not best and a.worth == best.worth]
    if not rivals:
        return "the only one that can be graded" if best.worth else "none can be read"
    rival = max(rivals, key=lambda attempt: attempt.key)
    if best.submitted != rival.submitted:
        return "the latest"
    if best.version != rival.version:
        return "of those handed in at the same time the one with the highest number"
    if best.is_ipynb != rival.is_ipynb:
        return "the .ipynb, since the .md was handed in at the same time"
    return "of those handed in at the same time the last by name"


def _compact(lines: Sequence[str]) -> tuple[str, ...]:
    """Equal lines once, with their number."""
    counts = Counter(lines)
    return tuple(line if n == 1 else f"{line} ({n} times)" for line, n in counts.items())


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d{1,6})?(?: ([\w+/-]{1,40}))?\s*")


def _parse_timestamp(text: str) -> datetime | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    try:
        zone = UTC if match[2] in (None, "UTC") else zoneinfo.ZoneInfo(match[2])
        return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OSError, OverflowError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return None
