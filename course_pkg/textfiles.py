"""Text files of many documents, and how one too large for memory is encoded part by part.

PyTorch is not imported here, so that a worker process is soon ready.
"""

import contextlib
import hashlib
import json
import mmap
import pickle
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from course_pkg.files import atomic_write
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer
from course_pkg.words import GPT2_SPLIT_PATTERN, stretches

if TYPE_CHECKING:
    import tiktoken

IdArray = npt.NDArray[np.unsignedinteger[Any]]

_SEPARATOR = re.compile(rf"^{re.escape(END_OF_TEXT)}[ \t]*$", re.MULTILINE)
# The same in bytes in which Windows line ends are still there. Whether it stands at the start of
# its line is looked up afterwards: searching for a line start first is many times slower.
_SEPARATOR_END = re.compile(
    rb"%b[ \t]*(?:\r(?=\n))?$" % re.escape(END_OF_TEXT.encode()), re.MULTILINE
)
_BOM = "\ufeff".encode()

# Where whitespace follows a character that is none and does not end a separator: any ASCII one
# but ">", or one whose UTF-8 form ends in a byte in which that of no whitespace ends.
_WORD_END = re.compile(rb"[!-=?-~\x8b-\x9e\xa1-\xa7\xaa-\xae\xb0-\xbf](?=[ \t\r\n])")

_PLAN = "plan.json"
_DIGEST_BYTES = 32
_STRETCH = 1 << 18  # characters that tiktoken gets at a time
_LONG_RUN = re.compile(r"\s{100000}")


def decode_text(content: bytes, source: str, offset: int = 0) -> str:
    """UTF-8 to text with ``\\n`` line ends and without a byte order mark at the start of a file.

    Args:
        content: bytes of a file.
        source: what to call the file in an error.
        offset: where ``content`` starts in it.

    Raises:
        ValueError: the bytes are not UTF-8; the message gives the offset of the first that is not.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source}: not UTF-8 text: byte 0x{content[error.start]:02x} at offset"
            f" {offset + error.start}."
        ) from None
    if not offset:
        text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n")


def separate(text: str) -> list[str]:
    """What stands between the lines that hold ``<|endoftext|>`` alone, line ends included."""
    return _SEPARATOR.split(text)


class Part(NamedTuple):
    """A range of bytes of a text file, and whether its first and last document are cut."""

    number: int
    start: int
    end: int
    begins_inside: bool
    ends_inside: bool


class Plan(NamedTuple):
    """A text file in parts that can be encoded each on its own."""

    parts: list[Part]
    has_separators: bool


def plan_parts(path: Path, part_bytes: int, pattern: str) -> Plan:
    """Cut a file into parts of about ``part_bytes`` bytes.

    With GPT-2's pattern cuts are between words, where a piece ends whatever is around it. Of any
    other pattern that is not known, and cuts are between documents.

    Raises:
        ValueError: the file is empty.
    """
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path}: the text is empty.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        inside = pattern == GPT2_SPLIT_PATTERN
        find = _word_end if inside else _document_end
        cuts = [0]
        least = len(_BOM)  # a byte order mark is no character of a document
        while (cut := find(content, max(least, cuts[-1] + part_bytes))) is not None and cut < size:
            cuts.append(cut)
        has_separators = _document_end(content, 0) is not None
    ends = [*cuts[1:], size]
    parts = [
        Part(number, start, end, inside and start > 0, inside and end < size)
        for number, (start, end) in enumerate(zip(cuts, ends, strict=True))
    ]
    return Plan(parts, has_separators)


def _word_end(content: mmap.mmap, start: int) -> int | None:
    match = _WORD_END.search(content, start)
    return match.end() if match else None


def _document_end(content: mmap.mmap, start: int) -> int | None:
    """The end of the first line that separates documents and starts at ``start`` or later."""
    for match in _SEPARATOR_END.finditer(content, start):
        before = content[max(0, match.start() - len(_BOM)) : match.start()]
        first = match.start() == 0 or (match.start() == len(_BOM) and before == _BOM)
        if first or before.endswith(b"\n"):
            return min(match.end() + 1, len(content))
    return None


class PartEncoder:
    """Encodes a part of a text file into a file of its own, and returns the number of ids.

    tiktoken does it where its ids are known to be ours. Where they are not, because the
    vocabulary cannot be tiktoken's, a character may be newer than its table of Unicode or a run
    of whitespace is too long for it, our own encoder does.

    Args:
        path: the text file.
        tokenizer: the tokenizer.
        dtype: of the ids.
        store: where the parts' files go.
        has_separators: whether the file has lines that separate documents.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: BPETokenizer,
        dtype: "np.dtype[np.unsignedinteger[Any]]",
        store: "PartStore",
        has_separators: bool,
    ) -> None:
        self._path, self._store, self._dtype = path, store, dtype
        self._has_separators = has_separators
        self._end = tokenizer.end_of_text_id
        self._pattern = tokenizer.pattern
        self._fast: tiktoken.Encoding | None = None
        with contextlib.suppress(ValueError):
            self._fast = tokenizer.to_tiktoken()
        # In pickled form, which a worker takes over at no cost: it rarely needs the tokenizer.
        self._pickled = pickle.dumps(tokenizer)
        self._known: set[int] = set()  # code points that had a meaning when Python's table was made

    def __call__(self, part: Part) -> int:
        with self._path.open("rb") as file:
            file.seek(part.start)
            content = file.read(part.end - part.start)
        text = decode_text(content, str(self._path), part.start)
        ids = np.concatenate([np.empty(0, self._dtype), *self._encode(self._documents(text, part))])
        self._store.write(part, ids.tobytes())
        return len(ids)

    def _documents(self, text: str, part: Part) -> Iterator[tuple[str, bool]]:
        """The documents as ``load_corpus`` gives them, and whether each ends in this part."""
        if not self._has_separators:
            if part.begins_inside or part.ends_inside or text.strip():
                yield text, not part.ends_inside
            return
        documents = separate(text)
        last = len(documents) - 1
        for number, document in enumerate(documents):
            begins = number > 0 or not part.begins_inside
            ends = number < last or not part.ends_inside
            if begins:
                document = document.lstrip("\n")
            if ends:
                document = document.rstrip("\n")
            # Of a document that is cut, the part before the cut is not blank.
            if document.strip() or not begins:
                yield document, ends

    def _encode(self, documents: Iterable[tuple[str, bool]]) -> Iterator[IdArray]:
        documents = list(documents)
        if self._end is None:
            for document, _ in documents:
                yield from self._encode_text(document, frozenset())
        elif any(END_OF_TEXT in document for document, _ in documents):
            for document, ends in documents:
                yield from self._encode_text(document, frozenset())
                yield np.array([self._end] if ends else [], self._dtype)
        else:  # all at once, since one call for each short document takes longer than its text
            marked = (document + (END_OF_TEXT if ends else "") for document, ends in documents)
            yield from self._encode_text("".join(marked), frozenset([END_OF_TEXT]))

    def _encode_text(self, text: str, special: frozenset[str]) -> Iterator[IdArray]:
        for stretch in stretches(self._pattern, text, _STRETCH):
            if self._fast is not None and self._is_for_tiktoken(stretch):
                # The list that tiktoken's encode_ordinary gives would have to be converted.
                ids = self._fast.encode_to_numpy(
                    stretch, allowed_special=special, disallowed_special=()
                )
                yield ids.astype(self._dtype)
            else:
                own = self._tokenizer.encode(stretch, special, disallowed_special=())
                yield np.array(own, self._dtype)

    def _is_for_tiktoken(self, text: str) -> bool:
        if len(text) > 2 * _STRETCH and _LONG_RUN.search(text):
            return False
        if text.isascii():
            return True
        try:
            codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        except UnicodeEncodeError:
            return False
        for code in set(np.flatnonzero(np.bincount(codes)).tolist()) - self._known:
            if unicodedata.category(chr(code)) == "Cn":
                return False
            self._known.add(code)
        return True

    @cached_property
    def _tokenizer(self) -> BPETokenizer:
        tokenizer: BPETokenizer = pickle.loads(self._pickled)
        return tokenizer


class PartStore:
    """A folder beside the output with the parts that are finished.

    A file in it starts with a hash of the plan, the part's number and the ids. So one that is cut
    short, damaged or of another run counts as missing.
    """

    def __init__(self, output: Path, plan: dict[str, object]) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self._plan = plan
        self._key = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).digest()

    def begin(self, resume: bool) -> None:
        """Make the folder, or take over that of a run with the same plan.

        Raises:
            ValueError: there is a folder and ``resume`` is False, or it is of another plan; the
                message says what is different.
        """
        plan_file = self.folder / _PLAN
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
        elif not resume:
            raise ValueError(
                f"{self.folder} holds what a run that was stopped has done: resume it"
                " (resume=True, --resume), or remove the folder."
            )
        elif plan_file.exists():
            known = json.loads(plan_file.read_text(encoding="utf-8"))
            for name, value in self._plan.items():
                if known.get(name) != value:
                    raise ValueError(
                        f"{name} has changed since the run in {self.folder} began: give what it"
                        " began with, or remove the folder to start again."
                    )
        with atomic_write(plan_file) as file:
            json.dump(self._plan, file)
        for left_over in self.folder.glob("*.tmp"):
            left_over.unlink()

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def write(self, part: Part, ids: bytes) -> None:
        with atomic_write(self._file(part), "wb") as file:
            file.write(self._digest(part, ids))
            file.write(ids)

    def read(self, part: Part) -> bytes | None:
        """The ids of a part, or None when they are not there."""
        try:
            content = self._file(part).read_bytes()
        except FileNotFoundError:
            return None
        digest, ids = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return ids if digest == self._digest(part, ids) else None

    def finished(self, part: Part) -> bytes:
        """The ids of a part that was written.

        Raises:
            OSError: they are not there any more, or damaged.
        """
        ids = self.read(part)
        if ids is None:
            raise OSError(f"{self._file(part)} was removed or damaged: resume the run.")
        return ids

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.number:06}.ids"

    def _digest(self, part: Part, ids: bytes) -> bytes:
        digest = hashlib.sha256(self._key)
        digest.update(part.number.to_bytes(8, "little"))
        digest.update(ids)
        return digest.digest()
