"""Exercises of chapter 1, the tokenizer."""

import random
import warnings
from bisect import bisect_left
from collections import Counter
from itertools import groupby, pairwise

import regex
import torch

from course_pkg.checks.compare import expect
from course_pkg.checks.engine import Exercise, Misconception, Property
from course_pkg.checks.entries import entry_is
from course_pkg.data import load_corpus
from course_pkg.tokenizer import GPT2_SPLIT_PATTERN, BPETokenizer

Pair = tuple[int, int]


def _rng(generator: torch.Generator) -> random.Random:
    return random.Random(generator.initial_seed())


# 01.merge_pair


def merge_pair(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """Replace each occurrence of a pair, from left to right."""
    return _merge(ids, pair, new_id)


def _merge(ids, pair, new_id, at_most=None):  # of numbers or of strings
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == tuple(pair) and at_most != 0:
            merged.append(new_id)
            at_most = None if at_most is None else at_most - 1
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def _merge_first(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return _merge(ids, pair, new_id, at_most=1)


def _merge_and_stay(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return [
        new_id if tuple(ids[i : i + 2]) == tuple(pair) else token for i, token in enumerate(ids)
    ]


def _merge_without_last(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids) - 1:
        found = (ids[i], ids[i + 1]) == tuple(pair)
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def _merge_from_right(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return _merge(ids[::-1], tuple(pair)[::-1], new_id)[::-1]


def _merge_either_order(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        found = sorted(ids[i : i + 2]) == sorted(pair)
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def _ids_and_pairs(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    ids = [rng.randrange(3) for _ in range(30)]
    return [
        ([1, 2, 3, 1, 2], (1, 2), 256),
        ([7, 7, 7, 5], (7, 7), 300),
        ([5, 3, 2, 3, 5, 2], (2, 3), 256),
        ([*ids, 0, 1, 2], (0, 1), 400),
        ([*ids, 2, 2, 2], (2, 2), 401),
    ]


def _without_the_pair(generator: torch.Generator) -> list[tuple]:
    return [([4, 5, 6], (5, 4), 256), ([], (1, 2), 256), ([1], (1, 1), 256)]


def _expands_back(seen, ids, pair, new_id):
    back = [i for token in seen for i in (pair if token == new_id else (token,))]
    expect(back == list(ids), f"the new id written out again gives {back}")


def _pair_is_gone(seen, ids, pair, new_id):
    left = sum(neighbours == tuple(pair) for neighbours in pairwise(seen))
    expect(left == 0, f"the pair still stands there {left} {'time' if left == 1 else 'times'}")


# 01.first_merges

_TEXT = "set the net, see the tent"
_NEW_WORD = " these"


def _by_hand(num_merges: int, *, pattern=GPT2_SPLIT_PATTERN, greatest=True, once=False) -> dict:
    frequency = Counter(regex.findall(pattern, _TEXT))
    words = {piece: list(piece) for piece in frequency}
    made, times, new_word = [], [], list(_NEW_WORD)
    for _ in range(num_merges):
        counts: Counter[tuple[str, str]] = Counter()
        for piece, tokens in words.items():
            for pair in pairwise(tokens):
                counts[pair] += 1 if once else frequency[piece]
        top = max(counts.values())
        tied = [pair for pair, count in counts.items() if count == top]
        best = max(tied) if greatest else min(tied)
        made.append("".join(best))
        times.append(top)
        words = {piece: _merge(tokens, best, made[-1]) for piece, tokens in words.items()}
        new_word = _merge(new_word, best, made[-1])
    num_tokens = sum(frequency[piece] * len(tokens) for piece, tokens in words.items())
    return {"merges": made, "times": times, "tokens": num_tokens, "these": new_word}


_LEARNED = _by_hand(3)


def _stand_in_the_text(seen):
    missing = [token for token in seen["merges"] if token not in _TEXT or len(token) < 2]
    expect(not missing, f"no merge of this text makes {missing}")


# 01.train_merges

BytesPair = tuple[bytes, bytes]


def train_merges(words: dict[str, int], num_merges: int, min_count: int) -> list[BytesPair]:
    """The merges that are learned from words with their counts, in order."""
    return _train(words, num_merges, min_count)


def _bytes_of(word: str) -> list[bytes]:
    return [bytes([byte]) for byte in word.encode("utf-8")]


def _characters_of(word: str) -> list[bytes]:
    return [character.encode("utf-8") for character in word]


def _all_pairs(tokens):
    return list(pairwise(tokens))


def _pairs_apart(tokens):
    """Of equal tokens in a row, only the pairs that can be merged at the same time."""
    runs = [list(run) for _, run in groupby(tokens)]
    equal = [(run[0], run[0]) for run in runs for _ in range(len(run) // 2)]
    return equal + [(a, b) for a, b in pairwise(tokens) if a != b]


def _count(cut, words, *, pairs_of=_all_pairs, once=False):
    counts: Counter[BytesPair] = Counter()
    for word, tokens in cut.items():
        for pair in pairs_of(tokens):
            counts[pair] += 1 if once else words[word]
    return counts


def _train(
    words, num_merges, min_count, *, choose=max, tokens_of=_bytes_of, recount=True, **counting
):
    cut = {word: tokens_of(word) for word in words}
    counts, merges = _count(cut, words, **counting), []
    while len(merges) < num_merges and counts:
        top = max(counts.values())
        if top < min_count:
            break
        best = choose([pair for pair, count in counts.items() if count == top])
        merges.append(best)
        cut = {word: _merge(tokens, best, b"".join(best)) for word, tokens in cut.items()}
        counts = _count(cut, words, **counting) if recount else counts - Counter({best: top})
    return merges


def _train_with(**changes):
    def train(words, num_merges, min_count):
        return _train(words, num_merges, min_count, **changes)

    return train


def _train_first_counted(words, num_merges, min_count):
    return _train(words, num_merges, min_count, choose=lambda tied: tied[0])


def _train_across_words(words, num_merges, min_count):
    text = "".join(word * count for word, count in words.items())
    return _train({text: 1}, num_merges, min_count)


def _train_without_end(words, num_merges, min_count):
    return _train(words, num_merges, 1)


def _train_more_than_min(words, num_merges, min_count):
    return _train(words, num_merges, min_count + 1)


def _train_one_too_many(words, num_merges, min_count):
    return _train(words, num_merges + 1, min_count)


def _words_with_counts(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)

    def random_words(number):
        spelled = ("".join(rng.choices("abc", k=rng.randrange(2, 8))) for _ in range(number))
        return {word: rng.randrange(1, 6) for word in spelled}

    # The first cases each tell one mistake from the right answer, whatever the seed.
    return [
        ({"that": 4, "hat": 2, "heat": 5, "chat": 3}, 4, 1),
        ({"cd": 2, "ab": 2, "ef": 2, "dc": 1}, 3, 1),
        ({"aaaa": 3, "aaab": 2, "bb": 10}, 2, 1),
        ({"xy": 4, "zw": 3, "uv": 2}, 5, 3),
        ({"größer": 3, "öre": 2, "naïv": 1}, 6, 2),
        (random_words(9), 10, 2),
        (random_words(12), 8, 1),
    ]


def _little_to_learn(generator: torch.Generator) -> list[tuple]:
    return [
        ({}, 3, 1),
        ({"a": 9, "i": 4}, 3, 1),
        ({"ab": 2}, 0, 1),
        ({"aba": 1, "ab": 3}, 40, 1),
        ({"ab": 3, "bc": 2}, 40, 9),
    ]


def _in_reverse(train_merges, words, num_merges, min_count):
    turned = dict(reversed(words.items()))
    return train_merges(words, num_merges, min_count), train_merges(turned, num_merges, min_count)


def _order_is_no_matter(seen, words, num_merges, min_count):
    ours, turned = ([_pair(merge) for merge in merges] for merges in seen)
    differ = next((i for i, (a, b) in enumerate(zip(ours, turned, strict=False)) if a != b), None)
    if differ is not None:
        expect(
            False,
            f"merge {differ} is {ours[differ]}, and {turned[differ]} when the same words are "
            "listed the other way round",
        )
    expect(len(ours) == len(turned), f"{len(ours)} merges, and {len(turned)} in the other order")


def _half_as_many(train_merges, words, num_merges, min_count):
    few = train_merges(words, num_merges // 2, min_count)
    return few, train_merges(words, num_merges, min_count)


def _begins_with(seen, words, num_merges, min_count):
    few, many = ([_pair(merge) for merge in merges] for merges in seen)
    expect(len(few) <= num_merges // 2, f"{len(few)} merges where {num_merges // 2} were wanted")
    expect(many[: len(few)] == few, f"{few}, and with twice as many {many}")


def _pair(merge) -> BytesPair:
    left, right = merge
    return bytes(left), bytes(right)


def _replayed(seen, words):
    """For each merge: itself, the counts before it; at the end the counts that are left."""
    cut = {word: _bytes_of(word) for word in words}
    for merge in map(_pair, seen):
        yield merge, _count(cut, words)
        cut = {word: _merge(tokens, merge, b"".join(merge)) for word, tokens in cut.items()}
    yield None, _count(cut, words)


def _most_frequent_each_time(seen, words, num_merges, min_count):
    for number, (merge, counts) in enumerate(_replayed(seen, words)):
        if merge is not None:
            top = max(counts.values(), default=0)
            expect(
                counts[merge] == top,
                f"merge {number} joins {merge}, which stands there {counts[merge]} times "
                f"when another pair stands there {top} times",
            )


def _stops_in_time(seen, words, num_merges, min_count):
    *steps, (_, left) = _replayed(seen, words)
    expect(len(steps) <= num_merges, f"{len(steps)} merges where {num_merges} were wanted")
    rare = [(merge, counts[merge]) for merge, counts in steps if counts[merge] < min_count]
    expect(not rare, f"(pair, count) of merges that are too rare: {rare[:2]}")
    more = [pair for pair, count in left.items() if count >= min_count]
    expect(
        len(steps) == num_merges or not more,
        f"training ended after {len(steps)} merges, when {more[:1]} was still frequent enough",
    )


# 01.encode_by_rank


def encode_by_rank(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    """Bytes to tokens: the merge of the lowest rank first, until none applies."""
    return _encode(data, merges, min)


def _split_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def _encode(data, merges, choose, rounds=None, at_most=None):
    """``choose`` gets the ranks of the pairs that stand there, in their order in the text."""
    rank_of = {merge: rank for rank, merge in enumerate(merges)}
    tokens = _split_bytes(data)
    while rounds != 0:
        ranks = [rank_of[pair] for pair in pairwise(tokens) if pair in rank_of]
        if not ranks:
            break
        pair = merges[choose(ranks)]
        tokens = _merge(tokens, pair, b"".join(pair), at_most=at_most)
        rounds = None if rounds is None else rounds - 1
    return tokens


def _encode_leftmost(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    return _encode(data, merges, lambda ranks: ranks[0], at_most=1)


def _encode_highest(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    return _encode(data, merges, max)


def _encode_once(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    return _encode(data, merges, min, rounds=1)


def _encode_longest(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    vocab = {left + right for left, right in merges}
    tokens = []
    while data:
        end = next(n for n in range(len(data), 0, -1) if n == 1 or data[:n] in vocab)
        tokens.append(data[:end])
        data = data[end:]
    return tokens


def _encode_most_frequent(data: bytes, merges: list[BytesPair]) -> list[bytes]:
    known, tokens = set(merges), _split_bytes(data)
    while counts := Counter(pair for pair in pairwise(tokens) if pair in known):
        pair = max(counts, key=lambda pair: (counts[pair], pair))
        tokens = _merge(tokens, pair, b"".join(pair))
    return tokens


def _learn(data: bytes, num_merges: int) -> tuple[list[BytesPair], list[bytes]]:
    tokens, merges = _split_bytes(data), []
    for _ in range(num_merges):
        counts = Counter(pairwise(tokens))
        merges.append(max(counts, key=lambda pair: (counts[pair], pair)))
        tokens = _merge(tokens, merges[-1], b"".join(merges[-1]))
    return merges, tokens


def _random_letters(rng: random.Random, length: int) -> bytes:
    return bytes(rng.choices(b"abcd", weights=(4, 3, 2, 1), k=length))


def _texts_and_merges(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    merges, _ = _learn(_random_letters(rng, 600), 30)
    by_hand = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"bc"), (b"c", b"d"), (b"bc", b"d")]
    return [
        (b"abcdabbcdb", by_hand),
        (_random_letters(rng, 120), merges),
        (_random_letters(rng, 61), merges),
    ]


def _short_texts(generator: torch.Generator) -> list[tuple]:
    (_, merges), *_ = _texts_and_merges(generator)
    return [(b"", merges), (b"a", merges), (b"zz", merges), (b"abcab", [])]


def _training_texts(generator: torch.Generator) -> list[tuple]:
    data = _random_letters(_rng(generator), 300)
    return [(data, _learn(data, 20)[0])]


def _joins_to_the_data(seen, data, merges):
    back = b"".join(seen)
    expect(back == data, f"the tokens join to {back!r}")


def _nothing_left_to_merge(seen, data, merges):
    left = [pair for pair in pairwise(seen) if pair in merges]
    expect(not left, f"the pair {left[:1]} could still be merged")


def _tokens_of_training(seen, data, merges):
    expect(list(seen) == _learn(data, len(merges))[1], "training ended with other tokens")


# 01.split_pattern


def split_pattern() -> str:
    """GPT-2's pattern with contractions in capitals, and each digit by itself."""
    return _pattern()


_PARTS = {
    "contraction": r"(?i:'(?:[sdmt]|ll|ve|re))",
    "letters": r" ?\p{L}+",
    "digits": r"\p{N}",
    "other": r" ?[^\s\p{L}\p{N}]+",
    "before": r"\s+(?!\S)",
    "space": r"\s+",
}


def _pattern(**changes: str) -> str:
    return "|".join(part for part in ({**_PARTS, **changes}).values() if part)


def _pattern_with(**changes):
    def pattern():
        return _pattern(**changes)

    return pattern


def _gpt2_pattern():
    return GPT2_SPLIT_PATTERN


def _words_and_signs():
    return r"\w+|[^\w\s]"


def _pieces(split_pattern, text):
    # A pattern that tries endlessly gives up after a second of the processor's time.
    return [match[0] for match in regex.finditer(split_pattern(), text, timeout=1.0)]


def _texts_to_split(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    words = ["IT'S", "we'll", "I'M", "don't", "a", "Tim", "naïve", "小狗", "42", "3.5", "½", "2026"]
    words += ["cakes!", "--", '"No!"', "x_1", "\n\n", "\tend", " dog", "  cat"]
    return [
        ("I'M 42, you're 7; DON'T stop at 2026!",),
        ("two  spaces,   three,\n a line end\n\tand a tab ",),
        ("½ of Ⅷ is IV, x² and 一二三; naïve 小狗",),
        (" ".join(rng.choices(words, k=15)),),
    ]


def _strange_texts(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    odd = "aZ'sSñ犬9½Ⅷ  \t\n\r\u00a0\u200b\u0301\u2028\x00\x1f_-.,!<|>\U0001f436"
    anything = [
        chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))) for _ in range(40)
    ]
    return [
        ("".join(rng.choices(odd, k=80)),),
        ("".join(anything),),
        (" ",),
        ("",),
    ]


def _nothing_is_lost(seen, text):
    expect("" not in seen, "the pattern matches an empty piece")
    expect("".join(seen) == text, f"the pieces join to {''.join(seen)!r}")


def _digits_stand_alone(seen, text):
    mixed = [piece for piece in seen if len(piece) > 1 and regex.search(r"\p{N}", piece)]
    expect(not mixed, f"{mixed[:1]} holds a digit and more")


def _contractions(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    ends = ["'s", "'d", "'m", "'t", "'ll", "'ve", "'re"]
    small = [rng.choice(["she", "dog", "we"]) + end for end in ends]
    rng.shuffle(small)
    return [(" ".join(small),), (" ".join(small).upper(),), ("'tis rock'n'roll",)]


def _pieces_again(split_pattern, text):
    return [_pieces(split_pattern, piece) for piece in _pieces(split_pattern, text)]


def _each_is_one_piece(seen, text):
    cut = [pieces for pieces in seen if len(pieces) != 1]
    expect(not cut, f"a piece by itself is split again, into {cut[:1]}")


def _through_a_tokenizer(split_pattern, text):
    """What a tokenizer with this pattern learns from the text, and makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where every piece is one byte there is nothing to learn
        tokenizer = BPETokenizer.train([text], vocab_size=256 + 3, pattern=split_pattern())
    ids = tokenizer.encode(text)
    return tokenizer.merges, tokenizer.decode(ids)


def _numbers_to_learn(generator: torch.Generator) -> list[tuple]:
    number = _rng(generator).randrange(10, 100)
    return [(f"{number}, " * 9 + "IT'S room 7!",)]


def _learned_in_pieces(seen, text):
    merges, back = seen
    expect(back == text, f"through a tokenizer comes {back!r}")
    tokens = [(left + right).decode("utf-8", errors="replace") for left, right in merges]
    mixed = [t for t in tokens if regex.search(r"\p{N}", t) and regex.search(r"[^\p{N}]", t)]
    expect(not mixed, f"the tokenizer learned {mixed[:1]}, which joins a digit and more")


# 01.split_on_special


def split_on_special(text: str, names: list[str]) -> list[str]:
    """The special tokens and the texts between them; the longest token wins."""
    return _split_on(text, names)


def _split_on(text, names, *, longest=True, escape=True, empty=False, specials=True):
    if not names:
        return [text] if text or empty else []
    ordered = sorted(names, key=len, reverse=True) if longest else names
    pattern = "|".join(regex.escape(name) if escape else name for name in ordered)
    parts = regex.split(f"({pattern})", text)
    return [part for part in parts if (part or empty) and (specials or part not in names)]


def _split_with(**changes):
    def split(text, names):
        return _split_on(text, names, **changes)

    return split


def _special_texts(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    names = ["<|end|>", "<|pad|>", "<|end|><|end|>"]
    words = [*names, "the end", "a < b | c > d", " ", "<|en"]
    mixed = "".join(rng.choice(words) for _ in range(12))
    return [
        ("one<|end|>two<|end|><|end|>three", names),
        ("<|pad|>" + mixed + "<|end|>", names),
        ("[x] and [x][y]!", ["[x]", "[x][y]"]),
    ]


def _nothing_special(generator: torch.Generator) -> list[tuple]:
    return [("a plain text", ["<|end|>"]), ("a <|end|> b", []), ("", ["<|end|>"]), ("", [])]


def _joins_back(seen, text, names):
    expect("".join(seen) == text, f"the parts join to {''.join(seen)!r}")


def _parts_are_pure(seen, text, names):
    mixed = [p for p in seen if p not in names and any(name in p for name in names)]
    expect(not mixed, f"{mixed[:1]} holds a special token and more")
    expect("" not in seen, "there is an empty part")


# 01.decode_bytes


def decode(ids: list[int], vocab: dict[int, bytes]) -> str:
    """Ids to text; bytes that are no UTF-8 become U+FFFD."""
    return b"".join(vocab[i] for i in ids).decode("utf-8", errors="replace")


def _decode_each(ids: list[int], vocab: dict[int, bytes]) -> str:
    return "".join(vocab[i].decode("utf-8", errors="replace") for i in ids)


def _decode_strictly(ids: list[int], vocab: dict[int, bytes]) -> str:
    return b"".join(vocab[i] for i in ids).decode("utf-8")


def _decode_ignoring(ids: list[int], vocab: dict[int, bytes]) -> str:
    return b"".join(vocab[i] for i in ids).decode("utf-8", errors="ignore")


def _decode_as_latin(ids: list[int], vocab: dict[int, bytes]) -> str:
    return b"".join(vocab[i] for i in ids).decode("latin-1")


def _small_vocab() -> dict[int, bytes]:
    tokens = [b" dog", "🐶".encode()[:2], "🐶".encode()[2:], "ï".encode(), b" d"]
    return {i: bytes([i]) for i in range(256)} | dict(enumerate(tokens, start=256))


def _ids_to_decode(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    noise = [rng.randrange(261) for _ in range(20)]
    return [
        ([256, 257, 258, 33, 110, 97, 259], _small_vocab()),
        ([*noise, 240, 159], _small_vocab()),
    ]


def _ids_of_whole_texts(generator: torch.Generator) -> list[tuple]:
    texts = ["naïve 小狗 🐶", "plain", ""]
    return [(list(text.encode("utf-8")), _small_vocab()) for text in texts]


def _cut_characters(generator: torch.Generator) -> list[tuple]:
    return [([256, 257], _small_vocab()), ([258, 256], _small_vocab()), ([195], _small_vocab())]


def _any_bytes(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    rows = [[rng.randrange(256) for _ in range(length)] for length in (1, 2, 9)]
    return [(row, _small_vocab()) for row in [*rows, [255], [0], [128, 65], [195, 169, 195]]]


def _is_the_text(seen, ids, vocab):
    text = bytes(ids).decode("utf-8")
    expect(seen == text, f"{text!r} came back as {seen!r}")


def _shows_the_cut(seen, ids, vocab):
    expect("\ufffd" in seen, f"{seen!r} does not show that a character is incomplete")
    expect((" dog" in seen) == (256 in ids), f"{seen!r} lost what was complete")


# 01.leaky_windows


def split_windows(
    documents: list[list[int]], end_id: int, context_length: int, num_validation: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Windows of ``context_length + 1`` ids for training and for validation."""
    return _windows_of(documents, end_id, context_length, num_validation)


def _windows_of(
    documents, end_id, context_length, num_validation, *, gap=0, by_document=True, ends="each"
):
    def windows(parts):
        ids = [i for part in parts for i in ([*part, end_id] if ends == "each" else part)]
        if ends == "last":
            ids.append(end_id)
        starts = range(0, len(ids) - context_length, context_length + gap)
        return [ids[start : start + context_length + 1] for start in starts]

    if by_document:
        return windows(documents[:-num_validation]), windows(documents[-num_validation:])
    everything = windows(documents)
    return everything[:-num_validation], everything[-num_validation:]


def _windows_with(**changes):
    def split(documents, end_id, context_length, num_validation):
        return _windows_of(documents, end_id, context_length, num_validation, **changes)

    return split


def _documents(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)

    def inputs(lengths, context_length, num_validation):
        unused = iter(range(1, 10_000))  # each id once, so that every id tells its document
        documents = [[next(unused) for _ in range(n)] for n in lengths]
        return documents, 0, context_length, num_validation

    # In the first case one end-of-text after all documents of a side would fill its last window.
    # In the second the ids of each side are a multiple of the context length: the last of them
    # begins no window.
    return [
        inputs([5, 6, 5, 3, 5], 4, 2),
        inputs([3, 7, 3, 3, 7], 4, 2),
        inputs([rng.randrange(8, 20) for _ in range(6)], 4, 2),
        inputs([rng.randrange(6, 15) for _ in range(5)], 3, 1),
    ]


def _no_document_on_both_sides(seen, documents, end_id, context_length, num_validation):
    held_out = {i for document in documents[-num_validation:] for i in document}
    leaked = sum(bool(held_out & set(window)) for window in seen[0])
    expect(leaked == 0, f"{leaked} training windows hold text of the held-out documents")
    kept = {i for document in documents[:-num_validation] for i in document}
    wrong = sum(bool(kept & set(window)) for window in seen[1])
    expect(wrong == 0, f"{wrong} validation windows hold text that the model is trained on")


def _targets_join(seen, documents, end_id, context_length, num_validation):
    for windows in seen:
        for before, after in pairwise(windows):
            expect(
                before[-1] == after[0],
                "the last target of a window is not the first input of the next",
            )


def _documents_end(seen, documents, end_id, context_length, num_validation):
    last = {document[-1] for document in documents}
    for windows in seen:
        for window in windows:
            for token, following in pairwise(window):
                if token in last:
                    expect(following == end_id, "a document runs on into the next")


# 01.compression

_TRAIN, _VALIDATION = (part.documents for part in load_corpus("stories").split())
_LEARNED_FROM, _MEASURED_ON = _TRAIN[:100], _VALIDATION[:20]
_LARGEST = BPETokenizer.train(_LEARNED_FROM, vocab_size=256 + 1000)


def _bytes_per_token(num_merges: int, texts) -> float:
    merges = _LARGEST.merges[:num_merges]
    tokens = [bytes([i]) for i in range(256)] + [left + right for left, right in merges]
    smaller = BPETokenizer(dict(enumerate(tokens)), merges)
    num_bytes = sum(len(text.encode("utf-8")) for text in texts)
    return num_bytes / sum(len(smaller.encode(text)) for text in texts)


def _fewest_merges(factor: int, texts) -> int:
    """The fewest merges with which the texts have at most 1/factor as many tokens as bytes."""
    # One more merge never makes more tokens, so the answers are first False, then True.
    return bisect_left(range(1001), True, key=lambda n: _bytes_per_token(n, texts) >= factor)


def _compression() -> dict[str, int | float]:
    return {
        "half": _fewest_merges(2, _MEASURED_ON),
        "third": _fewest_merges(3, _MEASURED_ON),
        "seen": _bytes_per_token(300, _LEARNED_FROM),
        "unseen": _bytes_per_token(300, _MEASURED_ON),
    }


_COMPRESSION = _compression()


def _fewest_is(name, factor):
    def judge(seen):
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        got = int(seen[name])
        is_number = bool(got == seen[name]) and 0 < got <= 1000
        expect(is_number, f"{seen[name]} is no number of merges")
        reached, before = (_bytes_per_token(n, _MEASURED_ON) for n in (got, got - 1))
        expect(reached >= factor, f"with {got} merges there are {reached:.3f} bytes per token")
        expect(before < factor, f"with {got - 1} merges there are {before:.3f} already")

    return judge


def _less_on_unseen(seen):
    expect(
        bool(seen["unseen"] < seen["seen"]),
        "the stories that the merges were learned from should be compressed more than others",
    )


# 01.fertility

PARALLEL_TEXTS = {
    "English": "The little dog runs through the garden and looks for its ball. It is very happy.",
    "German": "Der kleine Hund rennt durch den Garten und sucht seinen Ball. Er ist sehr froh.",
    "French": "Le petit chien court dans le jardin et cherche sa balle. Il est très content.",
    "Chinese": "小狗在花园里跑来跑去，找它的球。它很高兴。",
}
_WITH_SPACES = ("English", "German", "French")


def _fertility() -> dict[str, dict[str, float]]:
    tokenizer = BPETokenizer.train(_TRAIN[:300], vocab_size=1024)
    cut = {
        language: [tokenizer.vocab[i] for i in tokenizer.encode(text)]
        for language, text in PARALLEL_TEXTS.items()
    }
    number = {language: len(tokens) for language, tokens in cut.items()}
    others = [language for language in number if language != "English"]
    return {
        "tokens per word": {
            language: number[language] / len(PARALLEL_TEXTS[language].split())
            for language in _WITH_SPACES
        },
        "bytes per token": {
            language: len(text.encode("utf-8")) / number[language]
            for language, text in PARALLEL_TEXTS.items()
        },
        "premium": {language: number[language] / number["English"] for language in others},
        "single bytes": {
            language: sum(len(token) == 1 for token in tokens) / len(tokens)
            for language, tokens in cut.items()
        },
    }


_FERTILITY = _fertility()


def _inverted(*names: str) -> dict[str, dict[str, float]]:
    changed = {
        name: {language: 1 / value for language, value in _FERTILITY[name].items()}
        for name in names
    }
    return {**_FERTILITY, **changed}


def _scaled(name: str, factor) -> dict[str, dict[str, float]]:
    """One measure of each language multiplied by ``factor(language)``."""
    values = {language: value * factor(language) for language, value in _FERTILITY[name].items()}
    return {**_FERTILITY, name: values}


def _words_over_pieces(language: str) -> float:
    text = PARALLEL_TEXTS[language]
    return len(text.split()) / len(regex.findall(GPT2_SPLIT_PATTERN, text))


def _characters_over_bytes(language: str) -> float:
    return len(PARALLEL_TEXTS[language]) / len(PARALLEL_TEXTS[language].encode("utf-8"))


def _measured(name: str, statement: str) -> Property:
    judge = entry_is(
        name, _FERTILITY[name], "more than 1 % off what the texts give", tolerance=0.01
    )
    return Property(name, statement, judge=judge)


EXERCISES = (
    Exercise(
        id="01.merge_pair",
        title="Merge a pair",
        kind="implement",
        points=1,
        difficulty=1,
        section="1.3",
        reference=merge_pair,
        cases=_ids_and_pairs,
        properties=(
            Property("values", "Each occurrence, from left to right, became the new id."),
            Property(
                "nothing lost",
                "Written out again, the ids are the old ones.",
                judge=_expands_back,
            ),
            Property("all of them", "The pair does not stand there any more.", judge=_pair_is_gone),
            Property(
                "absent",
                "Without the pair nothing changes, also in an empty or one-token list.",
                cases=_without_the_pair,
            ),
        ),
        hints=(
            "Walk through the list with an index that you move by one or by two.",
            "At the last token there is no right neighbour to look at, and the token stays.",
        ),
        misconceptions=(
            Misconception(
                "Second token kept",
                "The pair became one id, but its second token is still there: move on by two.",
                _merge_and_stay,
            ),
            Misconception(
                "Last token lost",
                "The loop ends one token early, so a last token that is in no pair is dropped.",
                _merge_without_last,
            ),
            Misconception(
                "First occurrence only",
                "Only the first occurrence was replaced. A merge replaces all.",
                _merge_first,
            ),
            Misconception(
                "From the right",
                "In three equal tokens in a row the first two are the pair, not the last two.",
                _merge_from_right,
            ),
            Misconception(
                "In either order",
                "The pair was also replaced where its tokens stand the other way round.",
                _merge_either_order,
            ),
        ),
    ),
    Exercise(
        id="01.first_merges",
        title="Learn three merges by hand",
        kind="predict",
        points=2,
        difficulty=2,
        section="1.5",
        builds_on=("01.merge_pair",),
        reference=_LEARNED,
        properties=(
            Property(
                "merges",
                "These are the three tokens that are made, in order.",
                judge=entry_is("merges", _LEARNED["merges"], "which training does not make"),
            ),
            Property(
                "in the text",
                "Each of them stands in the text and has two characters or more.",
                judge=_stand_in_the_text,
            ),
            Property(
                "times",
                "So often does each pair stand there when it is merged.",
                judge=entry_is("times", _LEARNED["times"], "and not all of these counts are right"),
            ),
            Property(
                "tokens",
                "So many tokens is the text after the three merges.",
                judge=entry_is("tokens", _LEARNED["tokens"], "which is not what is left"),
            ),
            Property(
                "new word",
                "A word that training never saw is cut with these merges.",
                judge=entry_is("these", _LEARNED["these"], "which these merges do not give"),
            ),
        ),
        hints=(
            "Write down the pieces first: each word with its leading space.",
            "Count again after each merge: what was merged is one token now.",
            "Each merge leaves as many tokens less as the pair stood there.",
        ),
        misconceptions=(
            Misconception(
                "Smallest of a tie",
                "Where pairs are equally frequent, the greatest is taken here.",
                _by_hand(3, greatest=False),
                section="1.3",
            ),
            Misconception(
                "Across words",
                "These merges join what the split pattern has cut.",
                _by_hand(3, pattern=r"(?s).+"),
            ),
            Misconception(
                "Each word once",
                "A word that stands there twice counts twice.",
                _by_hand(3, once=True),
            ),
            Misconception(
                "Tokens of the vocabulary",
                "That is how many tokens the vocabulary has. Asked for is how many the text has.",
                {**_LEARNED, "tokens": 256 + 3},
            ),
        ),
    ),
    Exercise(
        id="01.train_merges",
        title="Learn merges from words with counts",
        kind="implement",
        points=3,
        difficulty=2,
        section="1.3",
        builds_on=("01.merge_pair", "01.first_merges"),
        reference=train_merges,
        cases=_words_with_counts,
        properties=(
            Property("values", "The merges are those of training, in order."),
            Property(
                "most frequent",
                "Each merge joins a pair that is the most frequent at that moment.",
                judge=_most_frequent_each_time,
            ),
            Property(
                "ties",
                "The order in which the words are listed does not matter.",
                observe=_in_reverse,
                judge=_order_is_no_matter,
            ),
            Property(
                "end",
                "Training ends after num_merges, or when no pair occurs min_count times.",
                judge=_stops_in_time,
            ),
            Property(
                "fewer",
                "Half as many merges are the first half of them.",
                observe=_half_as_many,
                judge=_begins_with,
            ),
            Property(
                "little text",
                "No words, words of one letter and no merges are fine too.",
                cases=_little_to_learn,
            ),
        ),
        hints=(
            "Keep for every word the list of its tokens; at first each byte is one.",
            "A pair that stands in a word counts as often as the word occurs.",
            "max(counts, key=lambda pair: (counts[pair], pair)) breaks a tie by the pair itself.",
        ),
        misconceptions=(
            Misconception(
                "Each word once",
                "A word that occurs five times gives each of its pairs five times.",
                _train_with(once=True),
                section="1.6",
            ),
            Misconception(
                "Counted only once",
                "The pairs were counted at the beginning and never again. A merge makes new pairs, "
                "and takes others away.",
                _train_with(recount=False),
            ),
            Misconception(
                "First counted of a tie",
                "Of equally frequent pairs the one that was counted first was taken, so the merges "
                "depend on the order of the words.",
                _train_first_counted,
            ),
            Misconception(
                "Smallest of a tie",
                "Of equally frequent pairs the greatest is taken here, not the smallest.",
                _train_with(choose=min),
            ),
            Misconception(
                "Characters instead of bytes",
                "The words were cut into characters. A character outside of plain English has two "
                "bytes or more, and these are the tokens to start from.",
                _train_with(tokens_of=_characters_of),
                section="1.2",
            ),
            Misconception(
                "Across words",
                "Pairs were also counted from the end of a word to the beginning of the next.",
                _train_across_words,
                section="1.5",
            ),
            Misconception(
                "Overlapping pairs left out",
                "In 'aaa' the pair of two a stands twice, although only one of them can be merged.",
                _train_with(pairs_of=_pairs_apart),
            ),
            Misconception(
                "No end",
                "Rare pairs were merged too: training should end at min_count.",
                _train_without_end,
            ),
            Misconception(
                "More than min_count",
                "A pair that occurs exactly min_count times is still merged.",
                _train_more_than_min,
            ),
            Misconception(
                "One too many",
                "There is one merge more than was asked for.",
                _train_one_too_many,
            ),
        ),
    ),
    Exercise(
        id="01.encode_by_rank",
        title="Encode with the merges",
        kind="implement",
        points=2,
        difficulty=2,
        section="1.4",
        builds_on=("01.merge_pair", "01.train_merges"),
        reference=encode_by_rank,
        cases=_texts_and_merges,
        properties=(
            Property("values", "The tokens are those of merging by lowest rank."),
            Property("lossless", "The tokens join to the text.", judge=_joins_to_the_data),
            Property("done", "No pair is left that could be merged.", judge=_nothing_left_to_merge),
            Property(
                "training text",
                "The training text gets the tokens that training ended with.",
                judge=_tokens_of_training,
                cases=_training_texts,
            ),
            Property(
                "short texts",
                "No byte, one byte, unknown pairs and no merges are fine too.",
                cases=_short_texts,
            ),
        ),
        hints=(
            "Which pairs stand in the text, and which of them was learned first?",
            "The rank of a merge is its place in the list.",
        ),
        misconceptions=(
            Misconception(
                "Leftmost first",
                "The first pair that could be merged was merged. The order is that of training, "
                "not that of the text.",
                _encode_leftmost,
            ),
            Misconception(
                "Longest token first",
                "At each place the longest token was taken. Training did not do that.",
                _encode_longest,
            ),
            Misconception(
                "Highest rank first",
                "The merges were applied with the latest first: its parts are often not made yet.",
                _encode_highest,
            ),
            Misconception(
                "Most frequent first",
                "The pair that is the most frequent in this text was merged first. Counting is for "
                "training; encoding follows the ranks.",
                _encode_most_frequent,
            ),
            Misconception(
                "One round",
                "Only one merge was applied. A merge makes new pairs: repeat until none is left.",
                _encode_once,
            ),
        ),
    ),
    Exercise(
        id="01.split_pattern",
        title="A split pattern of your own",
        kind="implement",
        points=2,
        difficulty=3,
        section="1.5",
        reference=split_pattern,
        cases=_texts_to_split,
        properties=(
            Property("values", "The pieces are those that the rules give.", observe=_pieces),
            Property(
                "nothing lost",
                "The pieces of any text join to the text.",
                observe=_pieces,
                judge=_nothing_is_lost,
                cases=_strange_texts,
            ),
            Property(
                "digits",
                "A piece with a digit is that digit and nothing else.",
                observe=_pieces,
                judge=_digits_stand_alone,
            ),
            Property(
                "contractions",
                "'s and 'LL are pieces of their own.",
                observe=_pieces,
                cases=_contractions,
            ),
            Property(
                "both sides",
                "A piece by itself is one piece again.",
                observe=_pieces_again,
                judge=_each_is_one_piece,
            ),
            Property(
                "tokenizer",
                "A tokenizer that is trained with it gives the text back.",
                observe=_through_a_tokenizer,
                judge=_learned_in_pieces,
                cases=_numbers_to_learn,
            ),
        ),
        hints=(
            "Start from GPT2_SPLIT_PATTERN, and change one alternative after the other.",
            "(?i:...) ignores the case of what stands in it.",
            "Which alternative takes the space before a number, if the digits' own does not?",
        ),
        misconceptions=(
            Misconception(
                "GPT-2's pattern",
                "This is GPT-2's pattern, without the two changes.",
                _gpt2_pattern,
            ),
            Misconception(
                "Whole numbers",
                "A number of several digits is one piece. Each digit should be one.",
                _pattern_with(digits=r"\p{N}+"),
            ),
            Misconception(
                "A space with the digit",
                "The digit took the space before it along.",
                _pattern_with(digits=r" ?\p{N}"),
            ),
            Misconception(
                "Contractions in small letters only",
                "'S and 'LL in capitals were cut into a sign and letters.",
                _pattern_with(contraction=r"'(?:[sdmt]|ll|ve|re)"),
            ),
            Misconception(
                "Digits that are not \\d",
                "Numbers such as ½ and Ⅷ are \\p{N} and not \\d: no alternative takes them, and "
                "they are lost.",
                _pattern_with(digits=r"\d"),
            ),
            Misconception(
                "English letters only",
                "[A-Za-z] has no ï and no 狗: they became signs.",
                _pattern_with(letters=r" ?[A-Za-z]+", other=r" ?[^\sA-Za-z\p{N}]+"),
            ),
            Misconception(
                "All spaces together",
                "Of two spaces before a word the word should keep the second: \\s+(?!\\S).",
                _pattern_with(before=""),
            ),
            Misconception(
                "No white space",
                "White space matches no alternative, so it is lost with every line end.",
                _words_and_signs,
            ),
        ),
    ),
    Exercise(
        id="01.split_on_special",
        title="Cut out the special tokens",
        kind="implement",
        points=2,
        difficulty=2,
        section="1.8",
        builds_on=("01.split_pattern",),
        reference=split_on_special,
        cases=_special_texts,
        properties=(
            Property("values", "The parts are the special tokens and what stands between them."),
            Property("lossless", "The parts join to the text.", judge=_joins_back),
            Property(
                "pure",
                "No part is empty, and none holds a special token and more.",
                judge=_parts_are_pure,
            ),
            Property(
                "nothing special",
                "Without special tokens the text is one part, and no text is no part.",
                cases=_nothing_special,
            ),
        ),
        hints=(
            "re.split keeps what a group in brackets matches.",
            "In 'a|b' the first alternative that fits wins, whichever is longer.",
            "A | inside a name means 'or' to a regular expression unless it is escaped.",
        ),
        misconceptions=(
            Misconception(
                "In the order given",
                "The names were tried in the order of the list, so a short one won where a longer "
                "one stood.",
                _split_with(longest=False),
            ),
            Misconception(
                "Not escaped",
                "The names were read as regular expressions: their | means 'or'. Use re.escape.",
                _split_with(escape=False),
            ),
            Misconception(
                "Empty parts",
                "Two special tokens side by side, or one at an end, leave an empty text. Drop it.",
                _split_with(empty=True),
            ),
            Misconception(
                "Special tokens dropped",
                "Only the texts between are left: the special tokens themselves are missing.",
                _split_with(specials=False),
            ),
        ),
    ),
    Exercise(
        id="01.decode_bytes",
        title="Decode any row of ids",
        kind="implement",
        points=1,
        difficulty=1,
        section="1.9",
        reference=decode,
        cases=_ids_to_decode,
        properties=(
            Property("values", "The text is that of the joined bytes."),
            Property(
                "whole texts",
                "A text that was cut into bytes comes back.",
                judge=_is_the_text,
                cases=_ids_of_whole_texts,
            ),
            Property(
                "cut characters",
                "Half a character shows as U+FFFD and raises nothing.",
                judge=_shows_the_cut,
                cases=_cut_characters,
            ),
            Property(
                "half and half",
                "A character whose bytes are in two tokens is one character.",
                cases=lambda generator: [([257, 258], _small_vocab())],
            ),
            Property(
                "any bytes",
                "Every row of ids gives the text that Python makes of its bytes, and no error.",
                cases=_any_bytes,
            ),
        ),
        hints=(
            "What is the right order: first join and then decode, or the other way round?",
            "bytes.decode has an argument that says what to do with invalid bytes.",
        ),
        misconceptions=(
            Misconception(
                "Token by token",
                "Each token was decoded alone. A character may be spread over several tokens.",
                _decode_each,
            ),
            Misconception(
                "Strict",
                "Invalid bytes raise an error. A model can generate any row of ids.",
                _decode_strictly,
            ),
            Misconception(
                "Ignored",
                "Invalid bytes vanish, and nobody sees that something is missing.",
                _decode_ignoring,
            ),
            Misconception(
                "A character for each byte",
                "Each byte became a character of its own: the bytes are UTF-8.",
                _decode_as_latin,
                section="1.2",
            ),
        ),
    ),
    Exercise(
        id="01.leaky_windows",
        title="Windows that leak",
        kind="debug",
        points=2,
        difficulty=3,
        section="1.11",
        reference=split_windows,
        cases=_documents,
        properties=(
            Property("values", "These are the windows of both parts."),
            Property(
                "no leak",
                "No document has windows on both sides.",
                judge=_no_document_on_both_sides,
            ),
            Property(
                "targets",
                "No token is skipped as a target between two windows.",
                judge=_targets_join,
            ),
            Property("ends", "Each document ends with end-of-text.", judge=_documents_end),
        ),
        hints=(
            "What should be split first: the documents or the windows?",
            "Neighbouring windows share one token: the last target of one is the first input of "
            "the other.",
        ),
        misconceptions=(
            Misconception(
                "As given",
                "This is still the code with its three faults.",
                _windows_with(gap=1, by_document=False, ends="last"),
            ),
            Misconception(
                "Stride not repaired",
                "The stride is still T + 1: the first token of each window is never a target.",
                _windows_with(gap=1),
            ),
            Misconception(
                "Split not repaired",
                "The windows are still split, not the documents, so a document is on both sides.",
                _windows_with(by_document=False),
            ),
            Misconception(
                "Ends not repaired",
                "Only the last document of a part has an end-of-text after it.",
                _windows_with(ends="last"),
            ),
            Misconception(
                "No end-of-text",
                "There is no end-of-text at all: the documents run into each other.",
                _windows_with(ends="none"),
            ),
        ),
    ),
    Exercise(
        id="01.compression",
        title="Half as many tokens",
        kind="explore",
        points=2,
        difficulty=2,
        section="1.7",
        builds_on=("01.train_merges", "01.encode_by_rank"),
        reference=_COMPRESSION,
        properties=(
            Property(
                "half",
                "With so many merges the text has half as many tokens, with one less it has not.",
                judge=_fewest_is("half", 2),
            ),
            Property("third", "The same for a third.", judge=_fewest_is("third", 3)),
            Property(
                "seen",
                "Bytes per token of the 100 stories, with 300 merges.",
                judge=entry_is(
                    "seen", _COMPRESSION["seen"], "more than 0.5 % off", tolerance=0.005
                ),
            ),
            Property(
                "unseen",
                "Bytes per token of the other 20 stories, with 300 merges.",
                judge=entry_is(
                    "unseen", _COMPRESSION["unseen"], "more than 0.5 % off", tolerance=0.005
                ),
            ),
            Property(
                "new text",
                "Text that the merges were not learned from is compressed less.",
                judge=_less_on_unseen,
            ),
        ),
        hints=(
            "vocab_size is 256 more than the number of merges.",
            "One more merge never makes a text longer, so you can halve the interval.",
        ),
        misconceptions=(
            Misconception(
                "Vocabulary size",
                "That is the size of the vocabulary: 256 of it are bytes.",
                {
                    **_COMPRESSION,
                    **{name: _COMPRESSION[name] + 256 for name in ("half", "third")},
                },
            ),
            Misconception(
                "One too few",
                "With so many it is just not reached yet.",
                {**_COMPRESSION, **{name: _COMPRESSION[name] - 1 for name in ("half", "third")}},
            ),
            Misconception(
                "Measured on the training text",
                "That is what the stories need from which the merges were learned. Measure on "
                "the others.",
                {
                    "half": _fewest_merges(2, _LEARNED_FROM),
                    "third": _fewest_merges(3, _LEARNED_FROM),
                    "seen": _COMPRESSION["seen"],
                    "unseen": _COMPRESSION["seen"],
                },
            ),
            Misconception(
                "Tokens per byte",
                "That is tokens per byte. Asked for is how many bytes a token covers.",
                {
                    **_COMPRESSION,
                    **{name: 1 / _COMPRESSION[name] for name in ("seen", "unseen")},
                },
            ),
        ),
    ),
    Exercise(
        id="01.fertility",
        title="What a text costs in another language",
        kind="measure",
        points=2,
        difficulty=2,
        section="1.10",
        builds_on=("01.compression",),
        reference=_FERTILITY,
        properties=(
            _measured("tokens per word", "Tokens over words, where spaces part the words."),
            _measured("bytes per token", "Bytes of UTF-8 over tokens."),
            _measured("premium", "Tokens of a translation over tokens of the English text."),
            _measured("single bytes", "The share of the tokens that are a single byte."),
        ),
        hints=(
            "All four come from the ids of the text, and its bytes or words.",
            "tokenizer.vocab[i] is the token of id i, as bytes.",
        ),
        misconceptions=(
            Misconception(
                "Characters for bytes",
                "A character of another script has up to four bytes: measure "
                "len(text.encode('utf-8')).",
                _scaled("bytes per token", _characters_over_bytes),
                section="1.2",
            ),
            Misconception(
                "Upside down",
                "These are words per token and tokens per byte.",
                _inverted("tokens per word", "bytes per token"),
            ),
            Misconception(
                "Pieces for words",
                "A full stop is a piece of the split pattern, but no word.",
                _scaled("tokens per word", _words_over_pieces),
                section="1.5",
            ),
            Misconception(
                "The English text over the translation",
                "A premium says how many times as many tokens the translation has.",
                _inverted("premium"),
            ),
            Misconception(
                "Tokens of several bytes",
                "This is the share of the tokens that merges made. The others are single bytes.",
                {
                    **_FERTILITY,
                    "single bytes": {k: 1 - v for k, v in _FERTILITY["single bytes"].items()},
                },
            ),
        ),
    ),
)
