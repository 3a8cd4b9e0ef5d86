"""Training: equal to counting anew, to HuggingFace under its tie rule, and the same every time."""

import multiprocessing
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import pairwise

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from course_pkg import load_corpus
from course_pkg import tokenizer as module
from course_pkg.tokenizer import END_OF_TEXT, GPT2_SPLIT_PATTERN, BPETokenizer, printable_token
from course_pkg.workers import ordered_map

Pair = tuple[bytes, bytes]

TEXT = (
    "The cat sat on the mat. The other cat didn't; it ran, and ran, and ran!\n\n"
    "\tIn 2024 the ca\u0301t said: naïve 漢字漢字 👩‍👩‍👧 aaaaaaa bananabanana\r\n"
)

runs = st.lists(st.tuples(st.sampled_from("abc "), st.integers(1, 9)), max_size=30).map(
    lambda parts: "".join(letter * count for letter, count in parts)
)
few_letters = st.text(alphabet="aab \n'é", max_size=120)
texts = st.one_of(few_letters, runs, st.text(max_size=60))
# HuggingFace's tables of Unicode may be older than ours, and then a new letter is none to it.
assigned = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)


def train(text: str | Iterable[str], vocab_size: int, *rest: Iterable[str] | str) -> BPETokenizer:
    """Train without the warning that a short text has too few pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BPETokenizer.train(text, vocab_size, *rest)


def pieces_of(text: str) -> Counter[str]:
    return Counter(regex.findall(GPT2_SPLIT_PATTERN, text))


def greatest_bytes(pair: Pair, ids: dict[bytes, int]) -> object:
    return pair


def smallest_ids(pair: Pair, ids: dict[bytes, int]) -> object:
    return -ids[pair[0]], -ids[pair[1]]


def recount(
    pieces: Counter[str],
    wanted: int,
    preference: Callable[[Pair, dict[bytes, int]], object] = greatest_bytes,
    byte_ids: Iterable[int] = range(256),
) -> list[Pair]:
    """BPE as it is defined: count every pair, merge the best one everywhere, start again."""
    words = [([bytes([byte]) for byte in piece.encode()], n) for piece, n in pieces.items()]
    ids = {bytes([byte]): i for byte, i in enumerate(byte_ids)}
    merges: list[Pair] = []
    while len(merges) < wanted:
        counts: Counter[Pair] = Counter()
        for word, n in words:
            for pair in pairwise(word):
                counts[pair] += n
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], preference(pair, ids)))
        ids[best[0] + best[1]] = 256 + len(merges)
        merges.append(best)
        for word, _ in words:
            place = 0
            while place + 1 < len(word):
                if (word[place], word[place + 1]) == best:
                    word[place : place + 2] = [best[0] + best[1]]
                place += 1
    return merges


@settings(max_examples=150, deadline=None, derandomize=True)
@given(texts, st.integers(0, 60))
def test_incremental_training_equals_counting_anew(text: str, wanted: int) -> None:
    assert train(text, 256 + wanted).merges == recount(pieces_of(text), wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.one_of(few_letters, runs, assigned), st.integers(1, 60))
def test_counting_anew_equals_huggingface_under_its_tie_rule(text: str, wanted: int) -> None:
    """HuggingFace breaks ties by the smallest ids; with that rule the oracle above gives its
    merges, so our trainer and HuggingFace's differ in nothing but the rule."""
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    peer.train_from_iterator(
        [text],
        trainers.BpeTrainer(
            vocab_size=256 + wanted, initial_alphabet=alphabet, show_progress=False
        ),
    )
    vocab = peer.get_vocab()
    byte_ids = [vocab[printable_token(bytes([byte]))] for byte in range(256)]
    merges = recount(pieces_of(text), wanted, smallest_ids, byte_ids)
    learned = {token: i for token, i in vocab.items() if i >= 256}
    assert learned == {
        printable_token(left + right): 256 + n for n, (left, right) in enumerate(merges)
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts, st.integers(0, 60))
def test_the_vocabulary_keeps_the_cs336_contract(text: str, wanted: int) -> None:
    specials = [END_OF_TEXT, "<|pad|>"]
    tokenizer = train(text, 258 + wanted, specials)
    vocab, merges = tokenizer.vocab, tokenizer.merges
    assert type(vocab) is dict and type(merges) is list
    expected = [bytes([byte]) for byte in range(256)]
    expected += [left + right for left, right in merges]
    expected += [name.encode() for name in specials]
    assert vocab == dict(enumerate(expected))
    assert all(type(half) is bytes for pair in merges for half in pair)
    assert tokenizer.special_tokens == {name: len(vocab) - 2 + n for n, name in enumerate(specials)}
    assert tokenizer.end_of_text_id == len(vocab) - 2
    assert tokenizer.vocab_size == len(vocab) <= 258 + wanted


def test_ties_go_to_the_greatest_pair_of_byte_strings() -> None:
    # Each of the four pairs occurs once. "b" is greater than "a", and "ba" than its prefix "b".
    assert train("ab ba", 257).merges == [(b"b", b"a")]
    text = "ba" * 5 + "!" + "bax!" * 2 + "bx!" * 2
    merges = train(text, 300, (), r"[a-z]+|.").merges
    assert merges.index((b"ba", b"x")) < merges.index((b"b", b"x"))


def test_special_tokens_are_never_merged_and_the_longest_wins() -> None:
    short, long = "<s>", "<s><s>"
    text = "ab<s><s>ab<s>ab<s><s><s>" * 20
    tokenizer = train(text, 300, [short, long])
    assert tokenizer.merges == recount(Counter({"ab": 60}), 42) == [(b"a", b"b")]
    # Their order in the list does not decide which one wins.
    assert tokenizer.encode("<s><s><s>", "all") == [
        tokenizer.special_tokens[n] for n in (long, short)
    ]
    assert train(text, 300, [long, short]).encode("<s><s><s>", "all") == [258 - 1, 258]


def test_special_tokens_end_a_piece() -> None:
    cut = train("ab" + END_OF_TEXT + "cd", 300, [END_OF_TEXT])
    assert set(cut.merges) == {(b"a", b"b"), (b"c", b"d")}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(texts, max_size=5), st.integers(0, 40))
def test_an_iterable_is_a_set_of_texts_with_nothing_merged_across_them(
    documents: list[str], wanted: int
) -> None:
    counts: Counter[str] = Counter()
    for document in documents:
        counts += pieces_of(document)
    expected = recount(counts, wanted)
    assert train(documents, 256 + wanted).merges == expected
    assert train(reversed(documents), 256 + wanted).merges == expected
    joined = train(END_OF_TEXT.join(documents), 257 + wanted, [END_OF_TEXT])
    assert joined.merges == expected


def test_an_iterable_is_read_one_text_at_a_time() -> None:
    alive = 0

    class Text(str):
        def __new__(cls, content: str) -> "Text":
            nonlocal alive
            alive += 1
            return super().__new__(cls, content)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def documents() -> Iterator[str]:
        nonlocal most
        for number in range(50):
            most = max(most, alive)
            yield Text(f"document number {number} of fifty")

    train(documents(), 280)
    assert most <= 2


# Larger than memory, on several cores


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("specials", [(), (END_OF_TEXT, "a special token")])
def test_the_merges_do_not_depend_on_the_number_of_workers(
    workers: int, specials: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STRETCH", 500)  # some twenty batches
    stories = [story + END_OF_TEXT for story in load_corpus("stories").documents[:12]]
    texts = [*stories, "", "a special token " * 20, TEXT * 20, "aaa bbb " * 300, "y" * 1500]
    expected = BPETokenizer.train(texts, 400, specials)
    calls: list[tuple[int, int]] = []
    streamed = BPETokenizer.train_from_iterator(
        iter(texts),
        400,
        specials,
        workers=workers,
        progress=lambda done, wanted: calls.append((done, wanted)),
    )
    wanted = 400 - 256 - len(specials)
    assert streamed.merges == expected.merges and streamed.vocab == expected.vocab
    assert calls == [(done, wanted) for done in range(1, wanted + 1)]


def test_the_merges_do_not_depend_on_the_order_in_which_pieces_were_counted() -> None:
    counts = pieces_of("".join(load_corpus("stories").documents[:20]))
    reversed_counts = Counter(dict(reversed(counts.items())))
    assert list(counts) != list(reversed_counts)
    merges = module._learn_merges(counts, 300, None)
    assert module._learn_merges(reversed_counts, 300, None) == merges


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(texts, max_size=5), st.integers(1, 30), st.integers(1, 30))
def test_pieces_are_counted_the_same_in_any_stretches(
    documents: list[str], stretch: int, most_words: int
) -> None:
    expected: Counter[str] = Counter()
    for document in documents:
        expected.update(pieces_of(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRETCH", stretch)
        patch.setattr(module, "_MAX_COUNTED_WORDS", most_words)
        pattern = regex.compile(GPT2_SPLIT_PATTERN)
        assert module._count_pieces(documents, [], pattern, 1) == expected
        batches = list(module._batches(documents))
    assert [text for batch in batches for text in batch] == documents
    assert all(sum(map(len, batch[:-1])) < stretch for batch in batches)


def test_another_pattern_is_counted_by_workers_too() -> None:
    texts = ["one two", "two\nthree two"]
    pattern = r"[^\n]+|\n"
    streamed = train_quietly(texts, 300, (), pattern, workers=2)
    assert streamed.merges == train(texts, 300, (), pattern).merges


def train_quietly(*arguments: object, **options: object) -> BPETokenizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BPETokenizer.train_from_iterator(*arguments, **options)


def test_only_a_few_texts_are_read_ahead_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus is read as the counts come back, and not all at once."""
    monkeypatch.setattr(module, "_STRETCH", 1)
    read, counted = 0, 0
    most_ahead = 0

    def counting_map(*arguments: object) -> Generator[Counter[str], None, None]:
        nonlocal counted
        for counts in ordered_map(*arguments):
            counted += 1
            yield counts

    def documents() -> Iterator[str]:
        nonlocal read, most_ahead
        for number in range(40):
            read += 1
            most_ahead = max(most_ahead, read - counted)
            yield f"document{number}"  # one word is one batch here

    monkeypatch.setattr(module, "ordered_map", counting_map)
    train_quietly(documents(), 270, workers=2)
    assert read == counted == 40
    assert most_ahead <= 2 * 2 + 2


def test_a_killed_worker_is_an_error_and_not_a_wait() -> None:
    def documents() -> Iterator[str]:
        for number in range(1000):
            if number == 50:
                multiprocessing.active_children()[0].kill()
            yield TEXT * 20_000

    with pytest.raises(ChildProcessError, match=r"worker process ended .* fewer workers"):
        BPETokenizer.train_from_iterator(documents(), 300, workers=2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("text", 300), {}, "texts is one string: give an iterable"),
        ((["text"], 300), {"workers": 0}, "workers=0 is not allowed: .* at least 1"),
        ((["text"], 255), {"workers": 2}, "vocab_size=255"),
        ((["te\ud800xt"], 300), {"workers": 2}, "lone surrogate"),
        ((["two words"], 300, (), r"\w+"), {"workers": 2}, "does not match every character"),
    ],
)
def test_bad_input_of_a_stream_is_named(
    arguments: tuple[object, ...], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BPETokenizer.train_from_iterator(*arguments, **options)


@pytest.mark.parametrize("method", ["train", "train_from_iterator"])
def test_the_warning_points_at_the_caller(method: str) -> None:
    """In a process of its own: here, in the test run, beartype stands between."""
    program = f"from course_pkg import BPETokenizer\nBPETokenizer.{method}([], 257)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert run.stderr.startswith("<string>:2: UserWarning: The text has only 0 merges")


def test_asking_for_too_many_merges_warns_with_both_numbers() -> None:
    with pytest.warns(UserWarning, match=r"only 2 merges of the 44 asked for.* 259 .* 301"):
        tokenizer = BPETokenizer.train("abc", 301, [END_OF_TEXT])
    assert tokenizer.merges == [(b"b", b"c"), (b"a", b"bc")]
    assert tokenizer.end_of_text_id == 258


@pytest.mark.parametrize("text", ["", [], ["", ""], iter(())])
def test_no_text_gives_the_bytes(text: str | Iterable[str]) -> None:
    with pytest.warns(UserWarning, match="only 0 merges of the 1 asked for"):
        assert BPETokenizer.train(text, 257).vocab_size == 256


def test_enough_text_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert BPETokenizer.train(TEXT, 300).vocab_size == 300
        assert BPETokenizer.train("", 256).merges == []


def test_progress_counts_every_merge() -> None:
    calls: list[tuple[int, int]] = []
    BPETokenizer.train(TEXT, 276, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 20) for done in range(1, 21)]


def test_one_long_piece_trains() -> None:
    tokenizer = train("a" * 1_000_000, 300)
    lengths = [len(left + right) for left, right in tokenizer.merges]
    # Doubling while it lasts, then the rest of 1,000,000 from its binary digits.
    assert lengths[:18] == [2**n for n in range(1, 19)]
    assert tokenizer.decode([tokenizer.vocab_size - 1]) == "a" * 1_000_000


def test_merges_do_not_depend_on_hash_seeds() -> None:
    program = (
        "import sys; from course_pkg.tokenizer import BPETokenizer;"
        "print(BPETokenizer.train(sys.stdin.buffer.read().decode(), 330, ['<s>', '<|t|>']).merges)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=TEXT.encode(),
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().decode().strip() == str(train(TEXT, 330, ["<s>", "<|t|>"]).merges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text", 255), "vocab_size=255 is not allowed.* 256 "),
        (("text", 257, ["<a>", "<b>"]), "vocab_size=257 .* 2 special tokens .* 258 "),
        (("text", 2_000_000), "vocab_size=2000000 "),
        (("text", 300, "<a>"), "'<a>' is one string"),
        (("text", 300, [""]), "special_tokens: '' "),
        (("text", 300, ["<a>", "<a>"]), "names one twice"),
        (("text", 300, ["\ud800"]), "lone surrogate"),
        (("te\ud800xt", 300), "lone surrogate"),
        (("text", 300, (), "("), "not a regular expression"),
        (("text", 300, (), r"(\w+)|."), "capturing group"),
        (("two words", 300, (), r"\w+"), "does not match every character"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BPETokenizer.train(*arguments)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(runs, st.integers(1, 200))
def test_every_token_is_what_its_own_bytes_are_encoded_to(text: str, wanted: int) -> None:
    """No two merges make the same bytes, and no token is out of reach: tiktoken relies on it."""
    assume(text)
    tokenizer = train(text, 256 + wanted, (), r"(?s:.+)")
    assert len(set(tokenizer.vocab.values())) == tokenizer.vocab_size
    for i in range(256, tokenizer.vocab_size):
        assert tokenizer.encode(tokenizer.decode([i])) == [i]
