"""The embedded stories agree with their record, and the script that made them is right."""

import hashlib
import importlib.util
import io
import json
import math
import re
import shlex
import struct
import sys
import tarfile
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_pkg.data import load_corpus

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ROOT / "course_pkg" / "corpora"
SEPARATOR_LINE = "<|endoftext|>"


def _load_script():
    spec = importlib.util.spec_from_file_location(
        "make_stories", ROOT / "scripts" / "make_stories.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_stories"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


make_stories = _load_script()


# --------------------------------------------------------------------------------- the corpus


@pytest.fixture(scope="module")
def raw() -> bytes:
    return (CORPORA / "stories.txt").read_bytes()


@pytest.fixture(scope="module")
def documents(raw) -> list[str]:
    return raw.decode("utf-8").removesuffix("\n").split(f"\n{SEPARATOR_LINE}\n")


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((CORPORA / "stories.json").read_text(encoding="utf-8"))


def test_text_is_the_recorded_one(raw, documents, record):
    assert hashlib.sha256(raw).hexdigest() == record["sha256"]
    assert len(raw) == record["num_bytes"]
    assert len(documents) == record["num_documents"]


def test_size_is_what_the_course_was_planned_for(raw, documents):
    assert 1_900_000 <= len(raw) <= 2_200_000
    assert 2_500 <= len(documents) <= 3_200
    lengths = [len(document) for document in documents]
    assert min(lengths) >= make_stories.MIN_CHARACTERS
    assert max(lengths) < 2_000


def test_text_is_plain_ascii_with_unix_line_ends(raw):
    text = raw.decode("ascii")
    assert set(text) - {"\n"} <= {chr(i) for i in range(32, 127)}
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_every_document_is_a_complete_story(documents):
    for document in documents:
        assert "<|" not in document
        assert document[0].isupper()
        assert document.rstrip('"')[-1] in ".!?"
        assert make_stories.fault(document) is None
        assert make_stories.normalise(document) == document


def test_no_story_is_there_twice(documents):
    assert len(set(documents)) == len(documents)
    # Independent of the script's own rule: nothing as long as a paragraph is in two stories.
    runs = Counter()
    for document in documents:
        words = re.sub(r"[^a-z' ]", " ", document.lower()).split()
        runs.update({" ".join(words[i : i + 60]) for i in range(len(words) - 59)})
    assert runs.most_common(1)[0][1] == 1


def test_stories_are_varied(documents):
    openings = {document[:60] for document in documents}
    assert len(openings) > 0.5 * len(documents)
    names = Counter(
        name for document in documents for name in set(re.findall(r"named (\w+)", document))
    )
    assert names.most_common(1)[0][1] < 0.4 * len(documents)
    assert len(names) > 100


def test_record_names_the_source_and_a_command_that_gives_its_settings(record, monkeypatch):
    assert record["source"]["model_sha256"] == make_stories.MODEL_SHA256
    assert record["source"]["tokenizer_sha256"] == make_stories.TOKENIZER_SHA256
    assert make_stories.PACKAGE in record["source"]["package"]
    assert re.match(r"2\.\d+", record["made_with"]["torch"])

    python, script, *options = shlex.split(record["command"])
    assert python == "python" and (ROOT / script).is_file()
    monkeypatch.setattr(sys, "argv", [script, *options])
    arguments = vars(make_stories.parse_arguments())
    assert {name: arguments[name] for name in record["settings"]} == record["settings"]


def test_recorded_settings_are_the_defaults(record):
    defaults = asdict(make_stories.Settings()) | {"batches": make_stories.BATCHES}
    assert record["settings"] == defaults


def test_record_accounts_for_every_sampled_sequence(record):
    sampled = record["settings"]["batches"] * record["settings"]["batch_size"]
    assert record["num_documents"] + sum(record["dropped"].values()) == sampled


def test_licence_note_says_where_the_text_is_from(record):
    note = (CORPORA / "LICENSE-stories.md").read_text(encoding="utf-8")
    for fact in ["CC0", "MIT", "2305.07759", make_stories.PACKAGE, "machine-generated"]:
        assert fact in note


def test_package_loads_the_same_documents(documents):
    assert list(load_corpus("stories").documents) == documents


# ------------------------------------------------------------------------------- tokenizer.bin


def tokenizer_bytes(pieces: list[bytes]) -> bytes:
    packed = [struct.pack("<fi", -1.5 * i, len(p)) + p for i, p in enumerate(pieces)]
    return struct.pack("<i", max(map(len, pieces))) + b"".join(packed)


PIECES = [b"<unk>", b"\n<s>\n", b"\n</s>\n", b"<0x0A>", b"<0xC3>", b"<0xA9>", b" Once", b" upon"]


def test_tokenizer_is_read():
    read = make_stories.read_tokenizer(tokenizer_bytes(PIECES), len(PIECES))
    assert read == [*PIECES[:3], b"\n", b"\xc3", b"\xa9", b" Once", b" upon"]


def test_tokenizer_of_another_size_is_refused():
    data = tokenizer_bytes(PIECES)
    with pytest.raises(ValueError, match="ends within token 7"):
        make_stories.read_tokenizer(data[:-1], len(PIECES))
    with pytest.raises(ValueError, match="3 bytes are left"):
        make_stories.read_tokenizer(data + b"abc", len(PIECES))


def test_decode_joins_bytes_and_drops_only_the_first_space():
    pieces = make_stories.read_tokenizer(tokenizer_bytes(PIECES), len(PIECES))
    assert make_stories.decode([6, 7, 4, 5, 3, 7], pieces) == "Once upon\u00e9\n upon"
    assert make_stories.decode([4], pieces) == "\ufffd"
    assert make_stories.decode([], pieces) == ""


# ----------------------------------------------------------------------------------- the model

VOCAB, WIDTH, HIDDEN, LAYERS, HEADS, CONTEXT = 17, 12, 20, 2, 3, 9
SHAPES = {
    "embedding": (VOCAB, WIDTH),
    "attention_norm": (LAYERS, WIDTH),
    "query": (LAYERS, WIDTH, WIDTH),
    "key": (LAYERS, WIDTH, WIDTH),
    "value": (LAYERS, WIDTH, WIDTH),
    "output": (LAYERS, WIDTH, WIDTH),
    "feed_forward_norm": (LAYERS, WIDTH),
    "gate": (LAYERS, HIDDEN, WIDTH),
    "down": (LAYERS, WIDTH, HIDDEN),
    "up": (LAYERS, HIDDEN, WIDTH),
    "final_norm": (WIDTH,),
}


@pytest.fixture
def tiny_model():
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }
    return make_stories.Llama(**tensors, num_heads=HEADS, context_length=CONTEXT)


def reference_logits(model, ids: list[int]) -> np.ndarray:
    """The same model written a second way: numpy, complex rotations, one token at a time."""
    w = {name: getattr(model, name).numpy() for name in SHAPES}
    head_dim = WIDTH // HEADS

    def norm(x, weight):
        return x / np.sqrt((x**2).mean() + 1e-5) * weight

    def turn(x, position):  # neighbouring pairs are complex numbers
        frequencies = 10_000.0 ** (-2 * np.arange(head_dim // 2) / head_dim)
        z = (x[0::2] + 1j * x[1::2]) * np.exp(1j * position * frequencies)
        return np.stack([z.real, z.imag], axis=1).ravel()

    stream = [w["embedding"][i] for i in ids]
    for layer in range(LAYERS):
        normed = [norm(x, w["attention_norm"][layer]) for x in stream]
        mixed = []
        for t in range(len(ids)):
            parts = []
            for head in range(HEADS):
                rows = slice(head * head_dim, (head + 1) * head_dim)
                query = turn(w["query"][layer, rows] @ normed[t], t)
                keys = [turn(w["key"][layer, rows] @ normed[s], s) for s in range(t + 1)]
                scores = np.array([query @ key for key in keys]) / math.sqrt(head_dim)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                parts.append(
                    sum(a * (w["value"][layer, rows] @ normed[s]) for s, a in enumerate(weights))
                )
            mixed.append(w["output"][layer] @ np.concatenate(parts))
        stream = [x + m for x, m in zip(stream, mixed, strict=True)]
        for t, x in enumerate(stream):
            h = norm(x, w["feed_forward_norm"][layer])
            gate = w["gate"][layer] @ h
            gated = gate / (1 + np.exp(-gate)) * (w["up"][layer] @ h)
            stream[t] = x + w["down"][layer] @ gated
    return np.array([w["embedding"] @ norm(x, w["final_norm"]) for x in stream])


def test_steps_with_a_cache_equal_the_whole_sequence_without_one(tiny_model):
    ids = torch.randint(VOCAB, (2, CONTEXT), generator=torch.Generator().manual_seed(1))
    cache = tiny_model.new_cache(2)
    steps = [tiny_model.step(ids[:, t], t, cache) for t in range(CONTEXT)]
    expected = np.stack([reference_logits(tiny_model, row) for row in ids.tolist()])
    np.testing.assert_allclose(torch.stack(steps, dim=1).numpy(), expected, rtol=0, atol=1e-10)


def test_rotation_keeps_length_and_sees_only_distances():
    generator = torch.Generator().manual_seed(2)
    query, key = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    rotate = make_stories.rotate
    torch.testing.assert_close(rotate(query, 0), query)
    torch.testing.assert_close(rotate(query, 37).norm(), query.norm())
    near, far = rotate(query, 7) @ rotate(key, 3), rotate(query, 204) @ rotate(key, 200)
    torch.testing.assert_close(near, far)
    assert not torch.isclose(near, rotate(query, 8) @ rotate(key, 3))


def model_bytes(model, *, vocab_size=VOCAB, kv_heads=HEADS) -> bytes:
    header = struct.pack("<7i", WIDTH, HIDDEN, LAYERS, HEADS, kv_heads, vocab_size, CONTEXT)
    tensors = [getattr(model, name).numpy().astype("<f4").tobytes() for name in SHAPES]
    rotary_tables = np.full(CONTEXT * (WIDTH // HEADS), np.nan, dtype="<f4").tobytes()
    return header + b"".join(tensors) + rotary_tables


def test_model_file_is_read_back(tiny_model):
    read = make_stories.read_model(model_bytes(tiny_model))
    assert (read.num_heads, read.context_length) == (HEADS, CONTEXT)
    for name in SHAPES:
        torch.testing.assert_close(
            getattr(read, name), getattr(tiny_model, name).float(), rtol=0, atol=0
        )


def test_model_of_another_layout_is_refused(tiny_model):
    with pytest.raises(ValueError, match="its header says"):
        make_stories.read_model(model_bytes(tiny_model)[:-4])
    with pytest.raises(ValueError, match="tied output head"):
        make_stories.read_model(model_bytes(tiny_model, vocab_size=-VOCAB))
    with pytest.raises(ValueError, match="as many key heads"):
        make_stories.read_model(model_bytes(tiny_model, kv_heads=1))


def test_package_with_another_model_is_refused(tmp_path):
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as file:
        member = tarfile.TarInfo(make_stories.DATA_FILE)
        member.size = 10
        file.addfile(member, io.BytesIO(b"0123456789"))
    expected = hashlib.sha256(b"0123456789").hexdigest()
    with pytest.raises(ValueError, match=rf"package\.tgz: the model's sha256 is {expected}"):
        make_stories.read_package(package)


# -------------------------------------------------------------------------------------- sampling

PROBABILITIES = [0.15, 0.5, 0.05, 0.3]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, 4, 1.0, PROBABILITIES),
        (1.0, 99, 1.0, PROBABILITIES),
        (1.0, 2, 1.0, [0, 0.625, 0, 0.375]),
        (1.0, 1, 1.0, [0, 1, 0, 0]),
        (1.0, 4, 0.45, [0, 1, 0, 0]),
        (1.0, 4, 0.55, [0, 0.625, 0, 0.375]),
        (1.0, 4, 0.9, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        (0.5, 4, 1.0, [p**2 / 0.365 for p in PROBABILITIES]),
    ],
)
def test_choose_draws_from_the_truncated_distribution(temperature, top_k, top_p, expected):
    draws = 20_000
    logits = torch.tensor(PROBABILITIES).log().expand(draws, -1) + 3.0
    generator = torch.Generator().manual_seed(3)
    ids = make_stories.choose(logits, temperature, top_k, top_p, generator)
    assert ids.shape == (draws,)
    found = torch.bincount(ids, minlength=4) / draws
    # Four standard deviations of a frequency; an id of probability 0 may never come.
    for p, q in zip(expected, found.tolist(), strict=True):
        assert abs(p - q) <= 4 * math.sqrt(p * (1 - p) / draws)


def test_every_batch_has_a_generator_of_its_own():
    def draw(seed, batch):
        generator = make_stories.batch_generator(seed, batch)
        return tuple(torch.randint(2**62, (2,), generator=generator).tolist())

    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2**32 - 1), (2**32 - 1, 0)]
    assert len({draw(*pair) for pair in pairs}) == len(pairs)
    assert draw(5, 7) == draw(5, 7)


class Scripted:
    """A model whose rows say what they are told to, whatever was drawn before."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.context_length = len(rows[0])

    def new_cache(self, batch_size):
        return None

    def step(self, ids, position, cache):
        wanted = torch.tensor([row[position] for row in self.rows])
        return torch.nn.functional.one_hot(wanted, 10) * 1000.0


def test_only_stories_that_end_within_the_context_are_kept():
    model = Scripted([[5, 6, 1, 7], [5, 6, 7, 8], [5, 6, 7, 1], [9, 2, 4, 1]])
    settings = make_stories.Settings(batch_size=4)
    assert make_stories.sample_batch(model, settings, 0) == [[5, 6], [5, 6, 7], [9]]


def test_a_batch_does_not_depend_on_earlier_ones(tiny_model):
    settings = make_stories.Settings(batch_size=64, opening=2)
    first_two = [make_stories.sample_batch(tiny_model, settings, i) for i in (0, 1)]
    assert make_stories.sample_batch(tiny_model, settings, 1) == first_two[1]
    assert first_two[0] != first_two[1]
    assert first_two[0]
    for story in first_two[0]:
        assert len(story) < CONTEXT and not {1, 2} & set(story)


# --------------------------------------------------------------------------------- the filters

# Every eight neighbouring words hold the name.
SENTENCE = "Tom and {0} the kind cat walked to {0} on day {1}."


def story(name: str, start: int = 0, sentences: int = 8) -> str:
    return " ".join(SENTENCE.format(name * (i + 1), i * i) for i in range(start, start + sentences))


GOOD = story("Mo")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        (GOOD + ' "Hello!"', None),
        (GOOD + " They had dinner, sang and studied the skilled gunner's shotput.", None),
        (GOOD + " Caf\u00e9.", "not ASCII"),
        (GOOD + " <unk>.", "unusual character"),
        (GOOD + " A\tb.", "unusual character"),
        (GOOD[:200] + ".", "too short"),
        ("and " + GOOD, "does not begin with a capital letter"),
        (GOOD + " And then he", "does not end like a sentence"),
        (GOOD + ' "Hello!', "unpaired quotation mark"),
        (GOOD + " The bird died.", "unfit word"),
        (GOOD + " He had a GUN.", "unfit word"),
    ],
)
def test_fault(text, reason):
    assert make_stories.fault(text) == reason


@given(st.text(alphabet=st.characters() | st.sampled_from(" \n\t\r")))
def test_normalise_changes_only_white_space(text):
    result = make_stories.normalise(text)
    assert result.split() == text.split()
    assert make_stories.normalise(result) == result
    assert not re.search(r"[ \n]{2}|^\s|\s$", result)


def test_selection_drops_copies_and_near_copies():
    selection = make_stories.Selection()
    near_copy = GOOD.replace("day 49", "night 3")
    same_opening = GOOD[:60] + story("Bo", start=20)
    for text in [GOOD, "  " + GOOD.replace(". ", ".\n\n"), near_copy, same_opening, "Short."]:
        selection.add(text)
    assert selection.stories == [GOOD, same_opening]
    assert selection.dropped == {"near-duplicate": 2, "too short": 1}


# ----------------------------------------------------------------------------------- the files


def test_a_finished_batch_is_read_and_not_sampled_again(tmp_path, tiny_model):
    settings = make_stories.Settings(batch_size=32)
    pieces = [bytes([65 + i]) for i in range(VOCAB)]
    first = make_stories.load_or_sample(tmp_path, 3, tiny_model, pieces, settings)
    again = make_stories.load_or_sample(tmp_path, 3, None, None, settings)
    assert first[0] and again[0] == first[0]
    assert (first[1], again[1]) == (True, False)


@pytest.mark.parametrize("name", [field.name for field in fields(make_stories.Settings)])
def test_a_batch_made_with_other_settings_is_refused(tmp_path, tiny_model, name):
    settings = make_stories.Settings(batch_size=4)
    pieces = [b"a"] * VOCAB
    make_stories.load_or_sample(tmp_path, 0, tiny_model, pieces, settings)
    other = make_stories.Settings(**(asdict(settings) | {name: getattr(settings, name) + 1}))
    with pytest.raises(ValueError, match=r"batch-0000\.json was made with"):
        make_stories.load_or_sample(tmp_path, 0, tiny_model, pieces, other)


def test_an_interrupted_run_continues_and_gives_the_same_files(tmp_path, monkeypatch, tiny_model):
    sampled = []
    interrupt_at = None

    def sample_batch(model, settings, batch):
        if batch == interrupt_at:
            raise KeyboardInterrupt
        sampled.append(batch)
        return [story(name + "abc"[batch]) for name in ("Ma", "Mi", "Mo")]

    def run(name):
        out_dir = tmp_path / f"out-{name}"
        argv = ["make_stories.py", "--batches", "3", "--batch-size", "4"]
        argv += ["--work-dir", str(tmp_path / f"work-{name}"), "--out-dir", str(out_dir)]
        monkeypatch.setattr(sys, "argv", argv)
        make_stories.main()
        return {path.name: path.read_bytes() for path in out_dir.iterdir()}

    pieces = [b"a"] * VOCAB
    package = model_bytes(tiny_model), tokenizer_bytes(pieces)
    monkeypatch.setattr(make_stories, "read_package", lambda path: package)
    monkeypatch.setattr(make_stories, "sample_batch", sample_batch)
    monkeypatch.setattr(make_stories, "decode", lambda ids, pieces: ids)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)

    whole = run("whole")
    assert sampled == [0, 1, 2]
    sampled.clear()
    interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    assert not (tmp_path / "out-cut").exists()
    interrupt_at = None
    assert run("cut") == whole
    assert sampled == [0, 1, 2]

    record = json.loads(whole["stories.json"])
    assert record["num_documents"] == 9
    assert record["dropped"] == {"not ended within the context": 3}
    assert record["sha256"] == hashlib.sha256(whole["stories.txt"]).hexdigest()
    lines = whole["stories.txt"].decode().splitlines()
    assert lines.count(SEPARATOR_LINE) == 8 and SEPARATOR_LINE not in (lines[0], lines[-1])
