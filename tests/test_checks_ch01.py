"""The exercises of chapter 1: what the checks expect, by another route, and wrong answers.

Right answers by other routes are in ``right_answers/ch01.py``.
"""

import random
import warnings
from pathlib import Path

import pytest
import regex
from judging import evaluate_at_seeds

from course_pkg import GPT2_SPLIT_PATTERN, BPETokenizer
from course_pkg.checks import ch01
from course_pkg.checks.engine import find_exercise

PAGE = Path(__file__).parents[1] / "solutions" / "01_tokenizer.md"

# What the checks expect, by another route


def test_first_merges_are_those_of_the_package():
    tokenizer = BPETokenizer.train(ch01._TEXT, vocab_size=256 + 3)
    expected = find_exercise("01.first_merges").reference
    assert [(left + right).decode() for left, right in tokenizer.merges] == expected["merges"]
    assert [tokenizer.decode([i]) for i in tokenizer.encode(" these")] == expected["these"]
    assert len(tokenizer.encode(ch01._TEXT)) == expected["tokens"]
    assert len(ch01._TEXT) - sum(expected["times"]) == expected["tokens"]
    assert ch01._TEXT in PAGE.read_text("utf-8")


def test_merges_from_words_are_those_of_the_package():
    rng = random.Random(5)
    for _ in range(20):
        words = {"".join(rng.choices("abcä", k=rng.randrange(1, 7))): 1 for _ in range(8)}
        words = {word: rng.randrange(1, 5) for word in words}
        texts = [word for word, count in words.items() for _ in range(count)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = BPETokenizer.train(texts, vocab_size=256 + 12, pattern="(?s).+")
        assert ch01.train_merges(words, 12, 1) == tokenizer.merges


def test_encoding_by_rank_is_that_of_the_package():
    rng = random.Random(6)
    for _ in range(10):
        merges, _ = ch01._learn(ch01._random_letters(rng, 200), 15)
        tokens = [*(bytes([i]) for i in range(256)), *(left + right for left, right in merges)]
        tokenizer = BPETokenizer(dict(enumerate(tokens)), merges, pattern="(?s).+")
        data = ch01._random_letters(rng, 50)
        ids = tokenizer.encode(data.decode("ascii"))
        assert ch01.encode_by_rank(data, merges) == [tokenizer.vocab[i] for i in ids]


def test_split_pattern_changes_nothing_but_numbers_and_capitals():
    pattern = ch01.split_pattern()
    for story in ch01._MEASURED_ON:
        assert regex.findall(pattern, story) == regex.findall(GPT2_SPLIT_PATTERN, story)
    assert regex.findall(pattern, "IT'S 42") == ["IT", "'S", " ", "4", "2"]


def test_one_merge_less_is_not_enough():
    expected = find_exercise("01.compression").reference
    for name, factor in (("half", 2), ("third", 3)):
        needed, texts = expected[name], ch01._MEASURED_ON
        num_bytes = len("".join(texts).encode("utf-8"))
        for num_merges, enough in ((needed - 1, False), (needed, True)):
            tokenizer = BPETokenizer.train(ch01._LEARNED_FROM, vocab_size=256 + num_merges)
            num_tokens = sum(len(tokenizer.encode(text)) for text in texts)
            assert (factor * num_tokens <= num_bytes) == enough


def test_the_parallel_texts_say_as_much_in_each_language():
    lengths = {name: len(text.split(".")) for name, text in ch01.PARALLEL_TEXTS.items()}
    assert lengths.pop("Chinese") == 1 and set(lengths.values()) == {3}
    assert ch01.PARALLEL_TEXTS["Chinese"].count("。") == 2


# Wrong in ways that no misconception foresees


def train_with_longest_on_a_tie(words, num_merges, min_count):
    def longest(tied):
        return max(tied, key=lambda pair: (len(pair[0] + pair[1]), pair))

    return ch01._train(words, num_merges, min_count, choose=longest)


def decode_with_one_sign(ids, vocab):
    joined = b"".join(vocab[i] for i in ids)
    return regex.sub("\ufffd+", "\ufffd", joined.decode("utf-8", errors="replace"))


def windows_with_a_rest(documents, end_id, context_length, num_validation):
    sides = ch01.split_windows(documents, end_id, context_length, num_validation)
    return [[*windows, windows[-1][-1:]] for windows in sides]


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("01.merge_pair", lambda ids, pair, new_id: ids),
        ("01.first_merges", {"merges": [" t", "se", "he"]}),
        ("01.first_merges", [" t", "se", "he"]),
        ("01.train_merges", lambda words, num_merges, min_count: []),
        ("01.train_merges", train_with_longest_on_a_tie),
        ("01.encode_by_rank", lambda data, merges: [bytes([byte]) for byte in data]),
        ("01.split_pattern", lambda: r"(?s)."),
        ("01.split_pattern", lambda: r"(?s).+"),
        ("01.split_pattern", lambda: f"({ch01.split_pattern()})"),  # no capturing group
        ("01.split_pattern", lambda: ch01.split_pattern() + "|"),  # matches empty pieces
        ("01.split_pattern", lambda: r"(?<=^|\s)" + ch01.split_pattern()),
        ("01.split_on_special", lambda text, names: [text]),
        ("01.decode_bytes", decode_with_one_sign),
        ("01.leaky_windows", windows_with_a_rest),
        ("01.compression", {**ch01._COMPRESSION, "third": ch01._COMPRESSION["third"] + 1}),
        ("01.compression", {**ch01._COMPRESSION, "half": 2000}),
        ("01.compression", {**ch01._COMPRESSION, "half": "126"}),
        ("01.compression", {"half": ch01._COMPRESSION["half"]}),
        ("01.fertility", {name: {} for name in ch01._FERTILITY}),
        ("01.fertility", dict.fromkeys(ch01._FERTILITY, 1.0)),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


def test_a_wrong_prediction_is_not_told_the_right_one():
    for exercise_id in ("01.first_merges", "01.compression", "01.fertility"):
        exercise = find_exercise(exercise_id)
        for misconception in exercise.misconceptions:
            for report in evaluate_at_seeds(exercise_id, misconception.answer):
                messages = "\n".join(o.message for o in report.outcomes if o.message)
                assert "expected" not in messages
