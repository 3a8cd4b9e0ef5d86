"""The exercises of chapter 1: right answers pass by any route, wrong ones fail and are told why."""

import itertools
import re

import pytest
import regex
import tiktoken
import torch
from judging import evaluate_at_seeds

from course_pkg import GPT2_SPLIT_PATTERN, BPETokenizer, TokenWindows
from course_pkg.checks import ch01
from course_pkg.checks.engine import find_exercise

# Right by another route


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


def encode_by_replay(data, merges):
    ids = list(data)
    for pair, new_id in sorted(merges.items(), key=lambda item: item[1]):
        ids = merge_with_a_string(ids, pair, new_id)
    return ids


def encode_with_tiktoken(data, merges):
    ranks = {token: i for i, token in ch01._vocab(merges).items()}
    encoding = tiktoken.Encoding(
        "exercise", pat_str="(?s).+", mergeable_ranks=ranks, special_tokens={}
    )
    return encoding.encode_ordinary(data.decode("ascii"))


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


def decode_with_str(ids, vocab):
    return str(b"".join(map(vocab.get, ids)), "utf-8", "replace")


def decode_with_a_bytearray(ids, vocab):
    collected = bytearray()
    for token_id in ids:
        collected += vocab[token_id]
    return collected.decode(errors="replace")


def windows_of_the_package(documents, end_id, context_length, num_validation):
    def windows(part):
        row = torch.tensor([i for document in part for i in (*document, end_id)])
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


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("01.merge_pair", merge_with_a_string),
        ("01.merge_pair", merge_with_an_iterator),
        ("01.merge_pair", merge_in_a_tuple),
        ("01.first_merges", lambda: (" t", "se", "he")),
        ("01.encode_by_rank", encode_by_replay),
        ("01.encode_by_rank", encode_with_tiktoken),
        ("01.split_on_special", split_by_hand),
        ("01.split_on_special", split_with_finditer),
        ("01.decode_bytes", decode_with_str),
        ("01.decode_bytes", decode_with_a_bytearray),
        ("01.leaky_windows", windows_of_the_package),
        ("01.leaky_windows", windows_with_a_loop),
    ],
)
def test_right_by_another_route_passes(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "passed", report.text()


# What the checks expect, by another route


def test_first_merges_are_those_of_the_package():
    tokenizer = BPETokenizer.train(ch01._TEXT, vocab_size=256 + 3)
    expected = [(left + right).decode() for left, right in tokenizer.merges]
    assert find_exercise("01.first_merges").reference == expected
    assert regex.findall(GPT2_SPLIT_PATTERN, ch01._TEXT)[1] == " the"


def test_one_merge_less_is_not_enough():
    needed = find_exercise("01.compression").reference
    texts = ch01._MEASURED_ON
    num_bytes = len("".join(texts).encode("utf-8"))
    for num_merges, enough in ((needed - 1, False), (needed, True)):
        tokenizer = BPETokenizer.train(ch01._LEARNED_FROM, vocab_size=256 + num_merges)
        num_tokens = sum(len(tokenizer.encode(text)) for text in texts)
        assert (2 * num_tokens <= num_bytes) == enough
