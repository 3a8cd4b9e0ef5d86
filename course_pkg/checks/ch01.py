"""Exercises of chapter 1, the tokenizer."""

import random
from bisect import bisect_left
from collections import Counter
from itertools import pairwise

import regex
import torch

from course_pkg.checks.compare import expect
from course_pkg.checks.engine import Exercise, Misconception, Property
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


def _ids_and_pairs(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    ids = [rng.randrange(3) for _ in range(30)]
    return [
        ([1, 2, 3, 1, 2], (1, 2), 256),
        ([7, 7, 7, 5], (7, 7), 300),
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
    expect(left == 0, f"the pair still stands there {left} times")


# 01.first_merges

_TEXT = "set the net, see the tent"


def _learn(text: str, num_merges: int, *, pattern=GPT2_SPLIT_PATTERN, greatest=True, once=False):
    frequency = Counter(regex.findall(pattern, text))
    words = {piece: list(piece) for piece in frequency}
    made = []
    for _ in range(num_merges):
        counts: Counter[tuple[str, str]] = Counter()
        for piece, tokens in words.items():
            for pair in pairwise(tokens):
                counts[pair] += 1 if once else frequency[piece]
        top = max(counts.values())
        tied = [pair for pair, count in counts.items() if count == top]
        best = max(tied) if greatest else min(tied)
        made.append("".join(best))
        words = {piece: _merge(tokens, best, made[-1]) for piece, tokens in words.items()}
    return made


def _stand_in_the_text(seen):
    missing = [token for token in seen if token not in _TEXT or len(token) < 2]
    expect(not missing, f"no merge of this text makes {missing}")


# 01.encode_by_rank


def encode_by_rank(data: bytes, merges: dict[Pair, int]) -> list[int]:
    """Bytes to ids: the merge of the lowest rank first, until none applies."""
    return _encode(data, merges, lambda places, ids: min(places, key=places.__getitem__))


def _encode(data, merges, choose, rounds=None, everywhere=True):
    ids = list(data)
    while rounds != 0:
        places = {pair: merges[pair] for pair in pairwise(ids) if pair in merges}
        if not places:
            break
        pair = choose(places, ids)
        ids = _merge(ids, pair, merges[pair], at_most=None if everywhere else 1)
        rounds = None if rounds is None else rounds - 1
    return ids


def _encode_leftmost(data: bytes, merges: dict[Pair, int]) -> list[int]:
    return _encode(data, merges, lambda places, ids: next(iter(places)), everywhere=False)


def _encode_highest(data: bytes, merges: dict[Pair, int]) -> list[int]:
    return _encode(data, merges, lambda places, ids: max(places, key=places.__getitem__))


def _encode_once(data: bytes, merges: dict[Pair, int]) -> list[int]:
    return _encode(data, merges, lambda places, ids: min(places, key=places.__getitem__), rounds=1)


def _encode_longest(data: bytes, merges: dict[Pair, int]) -> list[int]:
    id_of = {token: i for i, token in _vocab(merges).items()}
    ids = []
    while data:
        end = next(n for n in range(len(data), 0, -1) if data[:n] in id_of)
        ids.append(id_of[data[:end]])
        data = data[end:]
    return ids


def _vocab(merges: dict[Pair, int]) -> dict[int, bytes]:
    vocab = {i: bytes([i]) for i in range(256)}
    for (left, right), new_id in merges.items():
        vocab[new_id] = vocab[left] + vocab[right]
    return vocab


def _learn_ids(data: bytes, num_merges: int) -> tuple[dict[Pair, int], list[int]]:
    ids, merges = list(data), {}
    for new_id in range(256, 256 + num_merges):
        counts = Counter(pairwise(ids))
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges[best] = new_id
        ids = _merge(ids, best, new_id)
    return merges, ids


def _random_letters(rng: random.Random, length: int) -> bytes:
    return bytes(rng.choices(b"abcd", weights=(4, 3, 2, 1), k=length))


def _texts_and_merges(generator: torch.Generator) -> list[tuple]:
    rng = _rng(generator)
    merges, _ = _learn_ids(_random_letters(rng, 600), 30)
    return [(_random_letters(rng, 120), merges), (_random_letters(rng, 61), merges)]


def _short_texts(generator: torch.Generator) -> list[tuple]:
    (_, merges), *_ = _texts_and_merges(generator)
    return [(b"", merges), (b"a", merges), (b"zz", merges), (b"abcab", {})]


def _training_texts(generator: torch.Generator) -> list[tuple]:
    data = _random_letters(_rng(generator), 300)
    return [(data, _learn_ids(data, 20)[0])]


def _decodes_back(seen, data, merges):
    vocab = _vocab(merges)
    back = b"".join(vocab[i] for i in seen)
    expect(back == data, f"the ids stand for {back!r}")


def _nothing_left_to_merge(seen, data, merges):
    left = [pair for pair in pairwise(seen) if pair in merges]
    expect(not left, f"the pair {left[:1]} could still be merged")


def _ids_of_training(seen, data, merges):
    expect(seen == _learn_ids(data, len(merges))[1], "training ended with other ids")


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
    return [("a plain text", ["<|end|>"]), ("a <|end|> b", []), ("", ["<|end|>"])]


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
    return [
        inputs([5, 6, 5, 3, 5], 4, 2),
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


def _merges_needed(learned_from, measured_on, factor: int) -> int:
    """The fewest merges with which the texts have at most 1/factor as many tokens as bytes."""
    tokenizer = BPETokenizer.train(learned_from, vocab_size=256 + 600)
    num_bytes = sum(len(text.encode("utf-8")) for text in measured_on)

    def is_enough(num_merges: int) -> bool:
        merges = tokenizer.merges[:num_merges]
        tokens = [bytes([i]) for i in range(256)] + [left + right for left, right in merges]
        smaller = BPETokenizer(dict(enumerate(tokens)), merges)
        return factor * sum(len(smaller.encode(text)) for text in measured_on) <= num_bytes

    # One more merge never makes more tokens, so the answers are first False, then True.
    return bisect_left(range(601), True, key=is_enough)


_TRAIN, _VALIDATION = (part.documents for part in load_corpus("stories").split())
_LEARNED_FROM, _MEASURED_ON = _TRAIN[:100], _VALIDATION[:20]
_NEEDED = _merges_needed(_LEARNED_FROM, _MEASURED_ON, 2)


def _is_a_number_of_merges(seen):
    expect(isinstance(seen, int) and 0 < seen < 600, f"{seen} is no number of merges up to 600")


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
                "second token kept",
                "The pair became one id, but its second token is still there: move on by two.",
                _merge_and_stay,
            ),
            Misconception(
                "last token lost",
                "The loop ends one token early, so a last token that is in no pair is dropped.",
                _merge_without_last,
            ),
            Misconception(
                "first occurrence only",
                "Only the first occurrence was replaced. A merge replaces all.",
                _merge_first,
            ),
            Misconception(
                "from the right",
                "In three equal tokens in a row the first two are the pair, not the last two.",
                _merge_from_right,
            ),
        ),
    ),
    Exercise(
        id="01.first_merges",
        title="Learn three merges by hand",
        kind="predict",
        points=1,
        difficulty=2,
        section="1.5",
        reference=_learn(_TEXT, 3),
        properties=(
            Property("value", "These are the three tokens, in order."),
            Property(
                "in the text",
                "Each stands in the text and has two characters or more.",
                judge=_stand_in_the_text,
            ),
        ),
        hints=(
            "Write down the pieces first: each word with its leading space.",
            "Count again after each merge: what was merged is one token now.",
        ),
        misconceptions=(
            Misconception(
                "smallest of a tie",
                "Where pairs are equally frequent, the greatest is taken here.",
                _learn(_TEXT, 3, greatest=False),
                section="1.3",
            ),
            Misconception(
                "across words",
                "These merges join what the split pattern has cut.",
                _learn(_TEXT, 3, pattern=r"(?s).+"),
            ),
            Misconception(
                "each word once",
                "A word that stands there twice counts twice.",
                _learn(_TEXT, 3, once=True),
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
        reference=encode_by_rank,
        cases=_texts_and_merges,
        properties=(
            Property("values", "The ids are those of merging by lowest rank."),
            Property("lossless", "The ids stand for the bytes of the text.", judge=_decodes_back),
            Property("done", "No pair is left that could be merged.", judge=_nothing_left_to_merge),
            Property(
                "training text",
                "The training text gets the ids that training ended with.",
                judge=_ids_of_training,
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
            "The smaller the id that a merge makes, the lower its rank.",
        ),
        misconceptions=(
            Misconception(
                "leftmost first",
                "The first pair that could be merged was merged. The order is that of training, "
                "not that of the text.",
                _encode_leftmost,
            ),
            Misconception(
                "longest token first",
                "At each place the longest token was taken. Training did not do that.",
                _encode_longest,
            ),
            Misconception(
                "highest rank first",
                "The merges were applied with the latest first: its parts are often not made yet.",
                _encode_highest,
            ),
            Misconception(
                "one round",
                "Only one merge was applied. A merge makes new pairs: repeat until none is left.",
                _encode_once,
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
                "in the order given",
                "The names were tried in the order of the list, so a short one won where a longer "
                "one stood.",
                _split_with(longest=False),
            ),
            Misconception(
                "not escaped",
                "The names were read as regular expressions: their | means 'or'. Use re.escape.",
                _split_with(escape=False),
            ),
            Misconception(
                "empty parts",
                "Two special tokens side by side, or one at an end, leave an empty text. Drop it.",
                _split_with(empty=True),
            ),
            Misconception(
                "special tokens dropped",
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
        ),
        hints=(
            "What is the right order: first join and then decode, or the other way round?",
            "bytes.decode has an argument that says what to do with invalid bytes.",
        ),
        misconceptions=(
            Misconception(
                "token by token",
                "Each token was decoded alone. A character may be spread over several tokens.",
                _decode_each,
            ),
            Misconception(
                "strict",
                "Invalid bytes raise an error. A model can generate any row of ids.",
                _decode_strictly,
            ),
            Misconception(
                "ignored",
                "Invalid bytes vanish, and nobody sees that something is missing.",
                _decode_ignoring,
            ),
            Misconception(
                "a character for each byte",
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
                "as given",
                "This is still the code with its three faults.",
                _windows_with(gap=1, by_document=False, ends="last"),
            ),
            Misconception(
                "stride not repaired",
                "The stride is still T + 1: the first token of each window is never a target.",
                _windows_with(gap=1),
            ),
            Misconception(
                "split not repaired",
                "The windows are still split, not the documents, so a document is on both sides.",
                _windows_with(by_document=False),
            ),
            Misconception(
                "ends not repaired",
                "Only the last document of a part has an end-of-text after it.",
                _windows_with(ends="last"),
            ),
            Misconception(
                "no end-of-text",
                "There is no end-of-text at all: the documents run into each other.",
                _windows_with(ends="none"),
            ),
        ),
    ),
    Exercise(
        id="01.compression",
        title="Half as many tokens",
        kind="explore",
        points=1,
        difficulty=2,
        section="1.7",
        reference=_NEEDED,
        properties=(
            Property("value", "With it the text is halved, and with one merge less it is not."),
            Property("range", "It is a number of merges.", judge=_is_a_number_of_merges),
        ),
        hints=(
            "vocab_size is 256 more than the number of merges.",
            "One more merge never makes a text longer, so you can halve the interval.",
        ),
        misconceptions=(
            Misconception(
                "vocabulary size",
                "That is the size of the vocabulary: 256 of it are bytes.",
                _NEEDED + 256,
            ),
            Misconception("one too few", "With so many it is just not half yet.", _NEEDED - 1),
            Misconception(
                "measured on the training text",
                "That is what the stories need from which the merges were learned. Measure on "
                "the others.",
                _merges_needed(_LEARNED_FROM, _LEARNED_FROM, 2),
            ),
        ),
    ),
)
