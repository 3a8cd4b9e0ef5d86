"""Right answers to the exercises of chapter 1 that do not look like the solutions."""

import codecs
import heapq
import itertools
import re
import warnings
from collections import Counter, OrderedDict, defaultdict
from fractions import Fraction

import numpy as np
import regex
import tiktoken
import torch

from course_pkg import GPT2_SPLIT_PATTERN, BPETokenizer, TokenWindows
from course_pkg.checks import ch01

# 01.merge_pair


def merge_with_a_string(ids, pair, new_id):
    text = "".join(map(chr, ids)).replace(chr(pair[0]) + chr(pair[1]), chr(new_id))
    return list(map(ord, text))


def merge_with_an_iterator(ids, pair, new_id):
    merged, free = [], False  # free: the last token is not itself a merge
    for token in iter(ids):
        if free and (merged[-1], token) == pair:
            merged[-1] = new_id
            free = False
        else:
            merged.append(token)
            free = True
    return merged


def merge_in_a_tuple(ids, pair, new_id):
    if len(ids) < 2:
        return tuple(ids)
    if (ids[0], ids[1]) == pair:
        return (new_id, *merge_in_a_tuple(ids[2:], pair, new_id))
    return (ids[0], *merge_in_a_tuple(ids[1:], pair, new_id))


def merge_by_deleting(ids, pair, new_id):
    ids = list(ids)
    i = 0
    while i + 1 < len(ids):
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


# 01.first_merges


def learned_by_the_package():
    tokenizer = BPETokenizer.train(ch01._TEXT, vocab_size=256 + 3)
    made = [left + right for left, right in tokenizer.merges]
    times = [
        len(BPETokenizer.train(ch01._TEXT, vocab_size=256 + n).encode(ch01._TEXT)) for n in range(4)
    ]
    return {
        "merges": [token.decode() for token in made],
        "times": [before - after for before, after in itertools.pairwise(times)],
        "tokens": times[-1],
        "these": [tokenizer.decode([i]) for i in tokenizer.encode(" these")],
    }


LEARNED_IN_TUPLES = {
    "these": (" t", "he", "se"),
    "tokens": np.int64(18),
    "times": (3, 2, 2),
    "merges": (" t", "se", "he"),
}


# 01.train_merges


def train_with_the_package(words, num_merges, min_count):
    """The package's trainer knows no ``min_count``, so its merges are counted once more."""
    texts = [word for word, count in words.items() for _ in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there may be fewer merges than asked for
        tokenizer = BPETokenizer.train(texts, vocab_size=256 + num_merges, pattern="(?s).+")
    rows = [[bytes([b]) for b in text.encode()] for text in texts]
    kept = []
    for pair in tokenizer.merges:
        if sum(list(itertools.pairwise(row)).count(pair) for row in rows) < min_count:
            break
        kept.append(pair)
        rows = [merge_by_deleting(row, pair, b"".join(pair)) for row in rows]
    return kept


def train_with_ids(words, num_merges, min_count):
    """Ids inside, byte strings only for ties and at the end."""
    vocab = [bytes([i]) for i in range(256)]
    rows = [(list(word.encode()), count) for word, count in words.items()]
    learned = []
    while len(learned) < num_merges:
        counts = defaultdict(int)
        for ids, count in rows:
            for i in range(len(ids) - 1):
                counts[ids[i], ids[i + 1]] += count
        enough = [(count, vocab[a], vocab[b]) for (a, b), count in counts.items()]
        enough = [entry for entry in enough if entry[0] >= min_count]
        if not enough:
            break
        _, left, right = sorted(enough)[-1]
        pair = vocab.index(left), vocab.index(right)
        learned.append([left, right])
        vocab.append(left + right)
        rows = [(merge_by_deleting(ids, pair, len(vocab) - 1), count) for ids, count in rows]
    return tuple(learned)


def train_with_a_heap(words, num_merges, min_count):
    """The greatest of a tie by a heap of inverted bytes."""

    class Last:
        def __init__(self, count, pair):
            self.key = count, pair

        def __lt__(self, other):
            return self.key > other.key

    tokens = {word: tuple(bytes([b]) for b in word.encode()) for word in words}
    merges = []
    for _ in range(num_merges):
        counts = Counter()
        for word, times in words.items():
            for _ in range(times):
                counts.update(itertools.pairwise(tokens[word]))
        heap = [Last(count, pair) for pair, count in counts.items() if count >= min_count]
        heapq.heapify(heap)
        if not heap:
            return merges
        pair = heapq.heappop(heap).key[1]
        merges.append(pair)
        tokens = {word: merge_in_a_tuple(t, pair, b"".join(pair)) for word, t in tokens.items()}
    return merges


# 01.encode_by_rank


def encode_by_replay(data, merges):
    tokens = [bytes([b]) for b in data]
    for pair in merges:
        tokens = merge_by_deleting(tokens, pair, b"".join(pair))
    return tokens


def encode_with_tiktoken(data, merges):
    tokens = [*(bytes([i]) for i in range(256)), *(left + right for left, right in merges)]
    ranks = {token: i for i, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "exercise", pat_str="(?s).+", mergeable_ranks=ranks, special_tokens={}
    )
    return [tokens[i] for i in encoding.encode_ordinary(data.decode("ascii"))]


def encode_with_the_package(data, merges):
    tokens = [*(bytes([i]) for i in range(256)), *(left + right for left, right in merges)]
    tokenizer = BPETokenizer(dict(enumerate(tokens)), merges, pattern="(?s).+")
    return tuple(tokenizer.vocab[i] for i in tokenizer.encode(data.decode("ascii")))


def encode_one_place_at_a_time(data, merges):
    """Join the leftmost pair of the lowest rank, one occurrence in each round."""
    tokens = [bytes([b]) for b in data]
    while True:
        ranked = [
            (merges.index((a, b)), i)
            for i, (a, b) in enumerate(itertools.pairwise(tokens))
            if (a, b) in merges
        ]
        if not ranked:
            return tokens
        _, i = min(ranked)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


# 01.split_pattern


def pattern_from_gpt2s():
    changed = GPT2_SPLIT_PATTERN.replace(r" ?\p{N}+", r"\p{N}")
    return changed.replace("'(?:[sdmt]|ll|ve|re)", "'(?i:[sdmt]|ll|ve|re)")


def pattern_without_flags():
    ends = ["s", "d", "m", "t", "ll", "ve", "re"]
    contractions = [f"'{end}" for end in [*ends, *map(str.upper, ends)]]
    rest = [r"\p{N}", r" ?\p{L}+", r" ?[^\s\p{L}\p{N}]+", r"\s+(?!\S)", r"\s+"]
    return "|".join([*contractions, *rest])


def pattern_that_never_gives_back():
    return (
        r"(?i)'(?:s|d|m|t|ll|ve|re)|\p{Number}|[ ]?+\p{Letter}++"
        r"|[ ]?+[^\s\p{Letter}\p{Number}]++|\s++$|\s+(?=\s)|\s"
    )


# 01.split_on_special


def split_by_hand(text, names):
    parts, plain = [], ""
    while text:
        found = max((name for name in names if text.startswith(name)), key=len, default=None)
        if found is None:
            plain, text = plain + text[0], text[1:]
            continue
        parts += [plain, found]
        plain, text = "", text[len(found) :]
    return [part for part in [*parts, plain] if part]


def split_with_finditer(text, names):
    if not names:
        return [text] * bool(text)
    parts, start = [], 0
    pattern = "|".join(map(re.escape, sorted(names, key=lambda name: -len(name))))
    for match in re.finditer(pattern, text):
        parts += [text[start : match.start()], match[0]]
        start = match.end()
    return list(filter(None, [*parts, text[start:]]))


def split_with_a_named_list(text, names):
    if not names:
        return (text,) if text else ()
    pieces, start = [], 0
    for match in regex.finditer(r"\L<names>", text, names=names):  # the longest of a list wins
        pieces += [text[start : match.start()], match[0]]
        start = match.end()
    return tuple(piece for piece in [*pieces, text[start:]] if piece)


# 01.decode_bytes


def decode_with_str(ids, vocab):
    return str(b"".join(map(vocab.get, ids)), "utf-8", "replace")


def decode_with_a_bytearray(ids, vocab):
    collected = bytearray()
    for token_id in ids:
        collected += vocab[token_id]
    return collected.decode(errors="replace")


def decode_in_numpy(ids, vocab):
    collected = np.concatenate([np.frombuffer(vocab[i], dtype=np.uint8) for i in ids] or [[]])
    return collected.astype(np.uint8).tobytes().decode("utf8", "replace")


def decode_step_by_step(ids, vocab):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return "".join([decoder.decode(vocab[i]) for i in ids] + [decoder.decode(b"", final=True)])


# 01.leaky_windows


def windows_of_the_package(documents, end_id, context_length, num_validation):
    def windows(part):
        row = torch.tensor([i for document in part for i in (*document, end_id)])
        if len(row) <= context_length:
            return []
        cut = TokenWindows(row, context_length)
        return [[*cut[i][0].tolist(), cut[i][1][-1].item()] for i in range(len(cut))]

    cut = len(documents) - num_validation
    return windows(documents[:cut]), windows(documents[cut:])


def windows_with_a_loop(documents, end_id, context_length, num_validation):
    sides = []
    for part in (documents[:-num_validation], documents[-num_validation:]):
        row = list(itertools.chain.from_iterable([*document, end_id] for document in part))
        sides.append([])
        while len(row) > context_length:
            sides[-1].append(row[: context_length + 1])
            row = row[context_length:]
    return sides


def windows_by_unfold(documents, end_id, context_length, num_validation):
    def windows(part):
        row = torch.tensor([i for document in part for i in [*document, end_id]])
        if len(row) <= context_length:
            return []
        return row.unfold(0, context_length + 1, context_length).tolist()

    cut = len(documents) - num_validation
    return windows(documents[:cut]), windows(documents[cut:])


# 01.compression


def compression_by_walking():
    """From the trained merges, one more at a time, without any bisection."""
    texts, learned_from = ch01._MEASURED_ON, ch01._LEARNED_FROM
    merges = BPETokenizer.train(learned_from, vocab_size=256 + 700).merges
    num_bytes = sum(len(text.encode()) for text in texts)
    pieces = Counter(p for text in texts for p in regex.findall(GPT2_SPLIT_PATTERN, text))
    cut = {piece: [bytes([b]) for b in piece.encode()] for piece in pieces}
    found, at_300 = {}, None
    for number, pair in enumerate(merges, start=1):
        for piece, tokens in cut.items():
            if len(tokens) > 1:
                cut[piece] = merge_by_deleting(tokens, pair, b"".join(pair))
        num_tokens = sum(pieces[piece] * len(tokens) for piece, tokens in cut.items())
        for factor, name in ((2, "half"), (3, "third")):
            if factor * num_tokens <= num_bytes:
                found.setdefault(name, number)
        if number == 300:
            at_300 = num_bytes / num_tokens
    tokenizer = BPETokenizer.train(learned_from, vocab_size=256 + 300)
    seen = sum(len(text.encode()) for text in learned_from)
    seen /= sum(len(tokenizer.encode_ordinary(text)) for text in learned_from)
    return {**found, "seen": seen, "unseen": at_300}


_COMPRESSION = compression_by_walking()


# 01.fertility


def costs_from_the_bytes():
    """From the decoded bytes of each token, with exact fractions."""
    tokenizer = BPETokenizer.train(ch01._TRAIN[:300], vocab_size=1024)
    costs = defaultdict(dict)
    tokens = {
        language: [tokenizer.decode_bytes([i]) for i in tokenizer.encode_ordinary(text)]
        for language, text in ch01.PARALLEL_TEXTS.items()
    }
    for language, parts in tokens.items():
        number = len(parts)
        costs["bytes per token"][language] = float(Fraction(len(b"".join(parts)), number))
        costs["single bytes"][language] = 1 - sum(len(part) > 1 for part in parts) / number
        costs["premium"][language] = number / len(tokens["English"])  # 1 for English itself
        words = len(regex.findall(r"\S+", ch01.PARALLEL_TEXTS[language]))
        costs["tokens per word"][language] = number / words
    return costs


def _rounded(costs, digits=2):
    return {
        name: {language: round(value, digits) for language, value in values.items()}
        for name, values in costs.items()
    }


_COSTS = costs_from_the_bytes()

RIGHT = {
    "01.merge_pair": {
        "string": merge_with_a_string,
        "iterator": merge_with_an_iterator,
        "recursion": merge_in_a_tuple,
        "slices": merge_by_deleting,
    },
    "01.first_merges": {
        "package": learned_by_the_package,
        "tuples": LEARNED_IN_TUPLES,
        "function": lambda: OrderedDict(LEARNED_IN_TUPLES),
    },
    "01.train_merges": {
        "package": train_with_the_package,
        "ids": train_with_ids,
        "heap": train_with_a_heap,
    },
    "01.encode_by_rank": {
        "replay": encode_by_replay,
        "tiktoken": encode_with_tiktoken,
        "package": encode_with_the_package,
        "one place at a time": encode_one_place_at_a_time,
    },
    "01.split_pattern": {
        "replace in GPT-2's": pattern_from_gpt2s,
        "no flags": pattern_without_flags,
        "possessive": pattern_that_never_gives_back,
    },
    "01.split_on_special": {
        "by hand": split_by_hand,
        "finditer": split_with_finditer,
        "named list": split_with_a_named_list,
    },
    "01.decode_bytes": {
        "str": decode_with_str,
        "bytearray": decode_with_a_bytearray,
        "numpy": decode_in_numpy,
        "incremental decoder": decode_step_by_step,
    },
    "01.leaky_windows": {
        "package": windows_of_the_package,
        "loop": windows_with_a_loop,
        "unfold": windows_by_unfold,
    },
    "01.compression": {
        "one merge at a time": _COMPRESSION,
        "function": lambda: _COMPRESSION,
        "rounded": {name: round(value, 2) for name, value in _COMPRESSION.items()},
        "numpy": {name: np.float64(value) for name, value in _COMPRESSION.items()},
    },
    "01.fertility": {
        "fractions": _COSTS,
        "rounded": _rounded(_COSTS),
        "tensors": lambda: {
            name: {language: torch.tensor(value) for language, value in values.items()}
            for name, values in _COSTS.items()
        },
    },
}
