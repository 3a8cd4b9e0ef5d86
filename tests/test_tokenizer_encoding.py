"""Encoding and decoding: against tiktoken, HuggingFace tokenizers and plain definitions."""

import copy
import pickle
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from course_pkg import tokenizer as module
from course_pkg.tokenizer import (
    END_OF_TEXT,
    GPT2_SPLIT_PATTERN,
    BPETokenizer,
    _merge_all,
    _merge_all_long,
    gpt2_tokenizer,
    printable_token,
)
from course_pkg.words import OTHER, SPACE, find_words, stretches

TEXT = (
    "The cat sat on the mat. The other cat didn't; it ran, and they're glad we'll come!\n\n"
    "\tIn 2024 the ca\u0301t said: naïve 漢字漢字 👩‍👩‍👧 aaaaaaa bananabanana\r\n"
    "   ' '' 's 'S\u3000x\u200d"
) * 3
SPECIALS = ["<s>", "<s><s>", "s><", END_OF_TEXT]  # the first three overlap
# The pattern of GPT-4's vocabulary, which looks ahead over whole runs of whitespace.
GPT4_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SNIPPETS = [
    "'",
    "'r",
    "'re",
    "'l",
    "'ll",
    "e",
    "the",
    "banana",
    "aaaa",
    ".",
    "!?",
    "_",
    "<",
    "<s",
    "|>",
]
SNIPPETS += ["ß", "ǅ", "Ⅷ", "½", "7", "1234", "漢字", "مرحبا", "🇨🇭", "👩‍👩‍👧"]
SNIPPETS += [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x1c", "\u200d", " the"]
SNIPPETS += ["e\u0301", "\x00", "\ufeff", "\ufffd", *SPECIALS]
snippets = st.sampled_from(SNIPPETS)
adversarial = st.lists(st.one_of(snippets, st.text(max_size=8)), max_size=30).map("".join)
# The peers' tables of Unicode may be older than ours, and then a new letter is none to them.
assigned = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=8)
adversarial_to_peers = st.lists(st.one_of(snippets, assigned), max_size=30).map("".join)
common = settings(max_examples=120, deadline=None, derandomize=True)


@cache
def trained(pattern: str = GPT2_SPLIT_PATTERN, specials: tuple[str, ...] = ()) -> BPETokenizer:
    return BPETokenizer.train(TEXT, 256 + 80 + len(specials), specials, pattern)


@cache
def gpt2() -> tuple[BPETokenizer, tiktoken.Encoding]:
    tokenizer = gpt2_tokenizer()
    return tokenizer, tokenizer.to_tiktoken("gpt2-from-ours")


def to_huggingface(tokenizer: BPETokenizer) -> Tokenizer:
    peer = Tokenizer(
        models.BPE(
            vocab={printable_token(token): i for i, token in tokenizer.vocab.items()},
            merges=[
                (printable_token(left), printable_token(right)) for left, right in tokenizer.merges
            ],
        )
    )
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return peer


@common
@given(adversarial_to_peers)
@example("")
@example(TEXT)
def test_encoding_gives_tiktokens_ids(text: str) -> None:
    for tokenizer, peer in [
        (trained(), trained().to_tiktoken()),
        (trained(GPT4_PATTERN), trained(GPT4_PATTERN).to_tiktoken()),
        gpt2(),
    ]:
        assert tokenizer.encode_ordinary(text) == peer.encode_ordinary(text)


@common
@given(adversarial_to_peers)
@example(TEXT)
def test_encoding_gives_huggingfaces_ids(text: str) -> None:
    assert trained().encode(text) == to_huggingface(trained()).encode(text).ids


@common
@given(adversarial)
def test_decoding_gives_the_text_back(text: str) -> None:
    for tokenizer in (trained(), trained(GPT4_PATTERN), gpt2()[0]):
        ids = tokenizer.encode_ordinary(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()


def test_letters_digits_and_spaces_are_the_same_characters_to_all() -> None:
    """A vocabulary whose merges show, for each character, which neighbours share its piece."""
    merges = [(bytes([left]), bytes([right])) for left in b"a1. \n" for right in range(256)]
    vocab = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
    tokenizer = BPETokenizer(dict(enumerate(vocab)), merges)
    tiktokens, huggingfaces = tokenizer.to_tiktoken(), to_huggingface(tokenizer)
    kinds = [unicodedata.category(chr(code)) for code in range(sys.maxunicode + 1)]
    # The first and the last of each range of one category; the tables hold nothing else.
    characters = [
        chr(code)
        for code, kind in enumerate(kinds)
        if kind not in ("Cs", "Cn", "Co") and {kind} != {*kinds[code - 1 : code + 2]}
    ]
    assert len(characters) > 4_000
    for start in range(0, len(characters), 2000):
        text = "".join(f"a{c}x1{c}x.{c}x\n{c}x {c}x" for c in characters[start : start + 2000])
        ids = tokenizer.encode(text)
        assert ids == tiktokens.encode(text)
        assert ids == huggingfaces.encode(text).ids


@common
@given(st.text(alphabet="abn he", max_size=40))
def test_encoding_applies_the_merges_in_order(text: str) -> None:
    """The definition: each merge in turn, everywhere, from left to right."""
    tokenizer = trained(r"(?s:.+)")
    tokens = [bytes([byte]) for byte in text.encode()]
    for left, right in tokenizer.merges:
        place = 0
        while place + 1 < len(tokens):
            if (tokens[place], tokens[place + 1]) == (left, right):
                tokens[place : place + 2] = [left + right]
            place += 1
    assert [tokenizer.vocab[i] for i in tokenizer.encode(text)] == tokens


@common
@given(st.text(alphabet="abn e", max_size=300))
def test_the_merge_for_long_pieces_equals_the_plain_one(text: str) -> None:
    tokenizer = trained(r"(?s:.+)")
    short = [tokenizer._ids[ord(c)] for c in _merge_all_long(text, tokenizer._merged)]
    expected: list[int] = []
    symbols = text
    for number, pair in enumerate(tokenizer._pairs):
        symbols = symbols.replace(pair, chr(256 + number))
    expected = [tokenizer._ids[ord(c)] for c in symbols]
    assert short == expected
    assert tokenizer.encode(text) == expected  # whichever of the two it takes


@common
@given(st.lists(st.text("aabc", min_size=1, max_size=6), max_size=12, unique=True))
@example(["ba", "ab", "ab" + "ab", "bab"])
def test_only_tokens_that_their_bytes_are_encoded_to_are_taken_whole(tokens: list[str]) -> None:
    """Any list of merges, also one in which a merge comes before another can make its token."""
    made = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    for token in map(str.encode, sorted(tokens, key=len)):
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        usable = [pair for pair in halves if pair[0] in made and pair[1] in made]
        if usable and token not in made:
            merges.append(usable[len(merges) % len(usable)])
            made.append(token)
    tokenizer = BPETokenizer(dict(enumerate(made)), merges)
    for token in made:
        symbols = token.decode("latin-1")
        whole = len(_merge_all(symbols, tokenizer._merged)) == 1
        assert (token in tokenizer._whole) == whole == (len(_in_order(tokenizer, symbols)) == 1)


def _in_order(tokenizer: BPETokenizer, symbols: str) -> str:
    for number, pair in enumerate(tokenizer._pairs):
        symbols = symbols.replace(pair, chr(256 + number))
    return symbols


def test_every_token_of_gpt2_is_taken_whole() -> None:
    assert len(gpt2()[0]._whole) == 50_256


def test_whitespace_is_the_same_to_words_as_to_the_pattern() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    ours = {c for c in characters if re.fullmatch(SPACE, c)}
    assert ours == set(regex.findall(r"\s", "".join(characters)))
    assert not ours & {c for c in characters if re.fullmatch(OTHER, c)}


@common
@given(adversarial)
@example("a\x1cb !\x1d\x1e c\x1f")
def test_words_are_split_as_the_text_is(text: str) -> None:
    pattern = regex.compile(GPT2_SPLIT_PATTERN)
    words = find_words(text)
    assert "".join(words) == text
    pieces = [piece for word in words for piece in pattern.findall(word)]
    assert pieces == pattern.findall(text)


@common
@given(adversarial, st.sampled_from([GPT2_SPLIT_PATTERN, GPT4_PATTERN]), st.integers(1, 20))
def test_stretches_are_split_as_the_text_is(text: str, pattern: str, size: int) -> None:
    parts = list(stretches(pattern, text, size))
    assert "".join(parts) == text
    pieces = [piece for part in parts for piece in regex.findall(pattern, part)]
    assert pieces == regex.findall(pattern, text)


@settings(common, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=200))
def test_any_text_of_known_characters_gets_the_peers_ids(text: str) -> None:
    tokenizer, peer = gpt2()
    ids = peer.encode_ordinary(text)
    assert tokenizer.encode_ordinary(text) == ids
    assert trained().encode_ordinary(text) == to_huggingface(trained()).encode(text).ids


@pytest.mark.parametrize("character", ["a", " ", "\n", "é", "👍", "\x00"])
def test_a_megabyte_of_one_character(character: str) -> None:
    text = character * (1_000_000 // len(character.encode()))
    tokenizer, peer = trained(), trained().to_tiktoken()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    # tiktoken's regular expressions run out of stack on a million spaces.
    part = text[:100_000] if character.isspace() else text
    assert tokenizer.encode(part) == peer.encode(part)
    assert list(tokenizer.encode_iterable([text])) == ids


def test_a_long_piece_of_many_letters_gives_tiktokens_ids() -> None:
    text = "".join(random.Random(0).choices("etaoinshrdlu", k=100_000))
    tokenizer, peer = gpt2()
    assert tokenizer.encode(text) == peer.encode(text)


def test_the_ids_do_not_depend_on_what_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    tokenizer = copy.deepcopy(trained())
    for text in [TEXT, "x" * 5000, " " + "x" * 5000, TEXT]:
        assert tokenizer.encode(text) == trained().encode(text)
        for held in (tokenizer._words, tokenizer._pieces):
            assert 1 <= len(held) <= 3 and len(held._older) <= 3
            assert all(len(cached) < 1000 for cached in [*held, *held._older])


def test_what_was_used_lately_stays_in_a_full_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 10)
    merged: list[str] = []
    held = module._Cache(lambda text: merged.append(text) or text.upper())
    for number in range(100):
        assert (held[f"rare {number}"], held["often"]) == (f"RARE {number}", "OFTEN")
    assert merged.count("often") == 1 and len(merged) == 101
    assert held["rare 0"] == "RARE 0" and merged[-1] == "rare 0"  # gone, and made again


# Special tokens


def cut_at_specials(text: str, active: set[str]) -> list[str]:
    """Go through the text; the longest active special token at each place wins."""
    parts, ordinary = [], ""
    while text:
        here = max((name for name in active if text.startswith(name)), key=len, default="")
        if here:
            parts += [ordinary, here]
            ordinary, text = "", text[len(here) :]
        else:
            ordinary, text = ordinary + text[0], text[1:]
    return [part for part in [*parts, ordinary] if part]


special_sets = st.sets(st.sampled_from(SPECIALS))


@common
@given(adversarial, special_sets, special_sets)
def test_special_tokens(text: str, allowed: set[str], disallowed: set[str]) -> None:
    tokenizer = trained(specials=tuple(SPECIALS))
    parts = cut_at_specials(text, allowed | disallowed)
    if (disallowed - allowed) & set(parts):
        with pytest.raises(ValueError, match="special token"):
            tokenizer.encode(text, allowed, disallowed_special=disallowed)
        with pytest.raises(ValueError, match="special token"):
            list(tokenizer.encode_iterable(text, allowed, disallowed_special=disallowed))
        return
    expected = []
    for part in parts:
        if part in allowed:
            expected.append(tokenizer.special_tokens[part])
        else:
            expected += tokenizer.encode_ordinary(part)
    assert tokenizer.encode(text, allowed, disallowed_special=disallowed) == expected
    assert tokenizer.decode(expected) == text


@common
@given(adversarial_to_peers, st.sets(st.sampled_from([END_OF_TEXT, "<s>", "漢"])))
def test_special_tokens_that_do_not_overlap_are_handled_as_tiktoken_does(
    text: str, allowed: set[str]
) -> None:
    tokenizer = trained(specials=(END_OF_TEXT, "<s>", "漢"))
    peer = tokenizer.to_tiktoken()
    try:
        expected = peer.encode(text, allowed_special=allowed)
    except ValueError:
        with pytest.raises(ValueError, match="special token"):
            tokenizer.encode(text, allowed)
    else:
        assert tokenizer.encode(text, allowed) == expected
    assert tokenizer.encode(text, "all") == peer.encode(text, allowed_special="all")
    as_text = peer.encode(text, allowed_special=allowed, disallowed_special=())
    assert tokenizer.encode(text, allowed, disallowed_special=()) == as_text
    assert tokenizer.encode(text, disallowed_special=()) == tokenizer.encode_ordinary(text)


def test_a_special_token_in_the_text_raises_unless_allowed() -> None:
    tokenizer = trained(specials=(END_OF_TEXT,))
    with pytest.raises(ValueError, match=r"endoftext.*allowed_special=.*disallowed_special=\(\)"):
        tokenizer.encode(f"one{END_OF_TEXT}two")
    assert tokenizer.end_of_text_id in tokenizer.encode(f"one{END_OF_TEXT}two", {END_OF_TEXT})
    assert trained().end_of_text_id is None
    trained().encode(END_OF_TEXT)  # not a special token of this one


@pytest.mark.parametrize("argument", ["allowed_special", "disallowed_special"])
def test_unknown_special_tokens_are_named(argument: str) -> None:
    tokenizer = trained(specials=(END_OF_TEXT,))
    with pytest.raises(ValueError, match=rf"{argument}='<\|endoftxt\|>'.*<\|endoftext\|>"):
        tokenizer.encode("text", **{argument: {"<|endoftxt|>"}})
    with pytest.raises(ValueError, match=f"{argument}='<s>' is not allowed: give 'all' or a set"):
        tokenizer.encode("text", **{argument: "<s>"})


# encode_iterable


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(snippets, st.text(max_size=5)), max_size=40),
    st.sampled_from([GPT2_SPLIT_PATTERN, GPT4_PATTERN, r"[^\n]+|\n"]),
    st.sampled_from([(), ("<s>",), tuple(SPECIALS)]),
    st.integers(1, 7),
)
def test_encode_iterable_equals_encode_for_any_chunks(
    chunks: list[str], pattern: str, specials: tuple[str, ...], size: int
) -> None:
    tokenizer = trained(pattern, specials)
    text = "".join(chunks)
    even = [text[i : i + size] for i in range(0, len(text), size)]
    for cut in (chunks, even, text, [text]):
        assert list(tokenizer.encode_iterable(cut, "all")) == tokenizer.encode(text, "all")
        assert list(
            tokenizer.encode_iterable(iter(cut), disallowed_special=())
        ) == tokenizer.encode(text, disallowed_special=())


@pytest.mark.parametrize("pattern", [GPT2_SPLIT_PATTERN, GPT4_PATTERN])
@pytest.mark.parametrize("chunk_length", [1, 7, 1000])
def test_encode_iterable_holds_back_no_more_than_it_must(pattern: str, chunk_length: int) -> None:
    tokenizer = trained(pattern, (END_OF_TEXT,))
    text = TEXT * 40
    read = 0

    def chunks() -> Iterator[str]:
        nonlocal read
        for start in range(0, len(text), chunk_length):
            read += len(text[start : start + chunk_length].encode())
            yield text[start : start + chunk_length]

    written = most_behind = 0
    for i in tokenizer.encode_iterable(chunks(), "all"):
        most_behind = max(most_behind, read - written)
        written += len(tokenizer.vocab[i])
    assert written == len(text.encode())
    # No stretch of TEXT between two ends of whitespace is longer than 60 bytes.
    assert most_behind <= 2 * (60 + len(END_OF_TEXT)) + 4 * chunk_length


def test_encode_iterable_does_not_wait_for_whitespace_with_gpt2s_pattern() -> None:
    """A text without a space, such as Chinese, is given out as it comes."""
    read = 0

    def chunks() -> Iterator[str]:
        nonlocal read
        for _ in range(1000):
            read += 3
            yield "漢字。"

    next(trained().encode_iterable(chunks()))
    assert read <= 9


def test_many_small_chunks_of_one_long_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text held back is gone through again only when it has doubled."""
    seen: list[int] = []
    plain_split = module._split

    def counting_split(pattern: object, text: str) -> list[str]:
        seen.append(len(text))
        return plain_split(pattern, text)

    monkeypatch.setattr(module, "_split", counting_split)
    ids = list(trained().encode_iterable("a" for _ in range(100_000)))
    assert ids == trained().encode("a" * 100_000)
    assert sum(seen) < 5 * 100_000


# Decoding


@common
@given(st.lists(st.integers(0, 335), max_size=40))
def test_decoding_never_raises_on_bytes_that_are_not_utf8(ids: list[int]) -> None:
    tokenizer = trained()
    joined = b"".join(tokenizer.vocab[i] for i in ids)
    assert tokenizer.decode_bytes(ids) == joined
    assert tokenizer.decode(ids) == joined.decode("utf-8", errors="replace")
    assert tokenizer.decode(ids) == trained().to_tiktoken().decode(ids)
    assert tokenizer.decode(ids, errors="ignore") == joined.decode("utf-8", errors="ignore")


def test_decoding_takes_other_integers_and_names_unknown_ids() -> None:
    tokenizer = trained()
    assert tokenizer.decode(np.array([72, 105])) == "Hi"
    assert tokenizer.decode(iter([72, 105])) == "Hi"
    with pytest.raises(ValueError, match=r"ids: 99999 is not .* 336 tokens \(largest id 335\)"):
        tokenizer.decode([72, 99999])
    with pytest.raises(ValueError, match="-1 is not an id"):
        tokenizer.decode_bytes([-1])
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode([0xFF], errors="strict")


# Bad input and the rest


@pytest.mark.parametrize("text", ["\ud800", "a \udfff b", "x" * 500 + "\udc80"])
def test_lone_surrogates_are_rejected(text: str) -> None:
    tokenizer = trained()
    for encode in (tokenizer.encode, tokenizer.encode_ordinary):
        with pytest.raises(ValueError, match="lone surrogate") as error:
            encode(text)
        assert not isinstance(error.value, UnicodeError)
    with pytest.raises(ValueError, match="lone surrogate"):
        list(tokenizer.encode_iterable([text]))
    assert tokenizer.encode("a") == [97]  # and nothing of it stays behind


def test_wrong_types_are_named_without_the_test_runs_type_checks() -> None:
    """In a process of its own: here, in the test run, beartype would object first."""
    program = """
from course_pkg.tokenizer import BPETokenizer
t = BPETokenizer.train("aa", 257)
for call in (
    lambda: t.encode(b"bytes"),
    lambda: t.encode_ordinary(None),
    lambda: list(t.encode_iterable(["text", 5])),
    lambda: list(t.encode_iterable(b"bytes")),
    lambda: t.decode(["a"]),
    lambda: t.decode([1.0]),
    lambda: t.decode(5),
    lambda: BPETokenizer.train(b"bytes", 300),
    lambda: BPETokenizer.train(["text", None], 300),
    lambda: BPETokenizer.train("text", "300"),
    lambda: BPETokenizer.train("text", 300.0),
    lambda: BPETokenizer.train("text", 300, [5]),
    lambda: BPETokenizer.train("text", 300, [], None),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    lines = run.stdout.splitlines()
    expected = ["text", "text", "item 1", "item 0", "ids", "ids", "ids"]
    expected += ["item 0", "item 1", "vocab_size='300'", "vocab_size=300.0", "5", "pattern=None"]
    assert len(lines) == len(expected)
    assert [word in line for word, line in zip(expected, lines, strict=True)] == [True] * 13


def test_a_pattern_that_leaves_characters_out_is_refused() -> None:
    tokenizer = BPETokenizer.train("abc", 258, (), r"[a-z]+")
    with pytest.raises(ValueError, match="does not match every character"):
        tokenizer.encode("two words")


def test_a_pickled_tokenizer_is_the_same() -> None:
    tokenizer = trained(specials=tuple(SPECIALS))
    twin = pickle.loads(pickle.dumps(tokenizer))
    assert vars(twin).keys() == vars(tokenizer).keys()
    assert twin.encode(TEXT, "all") == tokenizer.encode(TEXT, "all")
    assert (twin.vocab, twin.merges) == (tokenizer.vocab, tokenizer.merges)


def test_importing_the_module_imports_neither_torch_nor_tiktoken() -> None:
    program = (
        "import sys, course_pkg.tokenizer;"
        "print(sorted({'torch', 'tiktoken', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout.split() == [b"[]"]


ABC = {i: bytes([i]) for i in range(256)} | {256: b"ab", 257: b"abc"}
AB, AB_C, A_BC = (b"a", b"b"), (b"ab", b"c"), (b"a", b"bc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({0: b"a"}, []), "256 single bytes"),
        ((ABC, [AB]), "vocab has 258 tokens where .* 257"),
        ((ABC | {258: b"abcd"}, [AB, AB_C]), "vocab has 259 tokens where .* 258"),
        ((ABC, [AB_C, AB]), "no merge has made"),
        ((ABC, [AB, AB]), "not made yet"),
        (
            (ABC | {257: b"bc", 258: b"abc", 259: b"x"}, [AB, (b"b", b"c"), AB_C, A_BC]),
            "not made yet",
        ),
        ((ABC, [AB, (b"b", b"c")]), "must make a token of vocab"),
        ((ABC, [AB, AB_C], {"<s>": 3}), r"'<s>' is that of b'\\x03'"),
        ((ABC, [AB, AB_C], {"<s>": 900, "<t>": 900}), "same id"),
        ((ABC, [AB, AB_C], {"<s>": -1}), "at least 0"),
        ((ABC, [AB, AB_C], {"": 258}), "non-empty"),
        ((ABC, [AB, AB_C], {}, "("), "pattern="),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    arguments: tuple[object, ...], message: str
) -> None:
    assert BPETokenizer(ABC, [AB, AB_C]).encode("abc") == [257]
    with pytest.raises(ValueError, match=message):
        BPETokenizer(*arguments)
