"""GPT-2's pattern, and where a text may be cut so that its pieces stay the same.

With this pattern a piece always ends where whitespace begins, and nothing looks back. So a run of
whitespace and what follows it, here called a word, is split into the same pieces wherever it
stands. Of other patterns that is not known.
"""

import re
from collections.abc import Iterator

# Contractions, then letters, digits and other characters, each with one leading space. Of a run
# of whitespace the last character is left for the word that follows.
GPT2_SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The standard library's `re` finds words much faster than `regex` finds pieces, but takes four
# control characters more for whitespace.
SPACE, OTHER = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"
_WORD = re.compile(rf"{SPACE}*{OTHER}+|{SPACE}+")
_WORD_END = re.compile(rf"(?<={OTHER})(?={SPACE})")


def find_words(text: str) -> list[str]:
    """All of a text as words; only the first may be without whitespace before it."""
    return _WORD.findall(text)


def stretches(pattern: str, text: str, size: int) -> Iterator[str]:
    """Long parts of a text that are split into pieces each on its own.

    Args:
        pattern: as for ``BPETokenizer``. With any other than GPT-2's, of which it is not known
            where a text may be cut, there is one part.
        text: the text.
        size: the number of characters from which on a part ends where it can.
    """
    start = 0
    if pattern == GPT2_SPLIT_PATTERN:
        while cut := _WORD_END.search(text, start + size):
            yield text[start : cut.start()]
            start = cut.start()
    yield text[start:] if start else text
