"""The command line, on runs of a few steps."""

import errno
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sandboxes
import torch
from click.testing import CliRunner

import course_pkg
from course_pkg import cli, data, training
from course_pkg.cli import course
from course_pkg.config import PRESETS, GPTConfig
from course_pkg.data import encode_documents, load_corpus, open_token_file
from course_pkg.gpt import GPT
from course_pkg.textfiles import PartStore
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer
from course_pkg.weights import load_pretrained, save_pretrained

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "Tom", "Lily", "big", "ball", "and", "then"]
MODEL = {"num_layers": 1, "num_heads": 2, "d_model": 16, "context_length": 32, "vocab_size": 280}
TINY = [
    *(word for key, value in MODEL.items() for word in ("--set", f"model.{key}={value}")),
    *("--set", "training.eval_batches=1", "--set", "training.log_every=1"),
    *("--batch-size", "2", "--max-steps", "3", "--device", "cpu"),
]
FILES = {
    "checkpoint.pt",
    "config.json",
    "history.json",
    "loss.svg",
    "model.safetensors",
    "run.json",
    "sample.txt",
    "tokenizer.json",
}


def invoke(*arguments, **kw):
    return CliRunner().invoke(course, [str(a) for a in arguments], **kw)


def succeed(*arguments, **kw):
    result = invoke(*arguments, **kw)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(*arguments, **kw):
    """Run what must be refused; returns its one line without ``course: error:``."""
    result = invoke(*arguments, **kw)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("course: error: "), result.stderr
    assert "Traceback" not in result.output
    return lines[0].removeprefix("course: error: ")


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    draw = random.Random(0)
    documents = [" ".join(draw.choices(WORDS, k=60)) + "." for _ in range(30)]
    path = tmp_path_factory.mktemp("corpus") / "tales.txt"
    text = f"\n{END_OF_TEXT}\n".join(documents)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, corpus):
    """A run of three steps: its folder and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "x"
    return out, succeed("train", "--out", out, "--corpus", corpus, *TINY)


@pytest.fixture
def run_copy(finished, tmp_path):
    out = tmp_path / "copy"
    out.mkdir()
    for name, content in snapshot(finished[0]).items():
        (out / name).write_bytes(content)
    return out


# course train


def test_train_leaves_everything(finished):
    out, printed = finished
    assert {path.name for path in out.iterdir()} == FILES
    model = load_pretrained(out)
    tokenizer = BPETokenizer.load(out / "tokenizer.json")
    assert model.config.d_model == 16 and model.config.vocab_size == tokenizer.vocab_size == 280
    history = training.History.from_dict(json.loads((out / "history.json").read_text()))
    assert [row["step"] for row in history.rows] == [1, 2, 3]
    checkpoint = training.load_model(out / "checkpoint.pt")
    for name, tensor in checkpoint.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert (out / "loss.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    sample = (out / "sample.txt").read_text(encoding="utf-8")
    assert sample.strip() and sample in printed
    for step in (1, 2, 3):
        assert re.search(rf"step {step}/3  loss \d", printed)
    assert "left" in printed


def test_the_tokenizer_has_seen_the_training_split_only(finished, corpus):
    expected = BPETokenizer.train(
        load_corpus(corpus).split(0.1)[0].documents, 280, special_tokens=[END_OF_TEXT]
    )
    assert BPETokenizer.load(finished[0] / "tokenizer.json").merges == expected.merges


def test_the_same_seed_gives_the_same_run(finished, corpus, tmp_path):
    state = torch.get_rng_state()
    out, other = tmp_path / "same", tmp_path / "other"
    succeed("train", "--out", out, "--corpus", corpus, *TINY)
    succeed("train", "--out", other, "--corpus", corpus, *TINY, "--seed", 1)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("model.safetensors", "history.json", "sample.txt", "loss.svg"):
        content = (finished[0] / name).read_bytes()
        assert (out / name).read_bytes() == content
        assert name == "sample.txt" or (other / name).read_bytes() != content


def test_a_given_tokenizer_is_used_and_sets_the_vocabulary(finished, corpus, tmp_path):
    tokenizer = finished[0] / "tokenizer.json"
    for given, out in ((tokenizer, tmp_path / "a"), (finished[0], tmp_path / "b")):
        options = ("--tokenizer", given, "--set", "model.vocab_size=999")
        succeed("train", "--out", out, "--corpus", corpus, *TINY, *options)
        assert (out / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
        assert load_pretrained(out).config.vocab_size == 280


def test_settings_reach_both_configurations(corpus, tmp_path):
    out = tmp_path / "x"
    options = ("--set", "training.grad_clip=None", "--set", "model.tie_weights=False")
    succeed("train", "--out", out, "--corpus", corpus, *TINY, *options, "--learning-rate", "0.006")
    content = training.read_checkpoint(out / "checkpoint.pt")
    assert content["model_config"]["tie_weights"] is False
    recipe, preset = content["training_config"], PRESETS[cli.DEFAULT_PRESET].training
    assert recipe["grad_clip"] is None and recipe["batch_size"] == 2
    ratio = preset.min_lr / preset.learning_rate
    assert recipe["min_lr"] / recipe["learning_rate"] == pytest.approx(ratio)
    assert recipe["warmup_steps"] == 0


def test_a_corpus_too_small_for_the_vocabulary_says_so(corpus, tmp_path):
    out = tmp_path / "x"
    options = ("--set", "model.vocab_size=5000")
    printed = succeed("train", "--out", out, "--corpus", corpus, *TINY, *options)
    config = load_pretrained(out).config
    assert 256 < config.vocab_size < 5000
    assert f"the vocabulary has {config.vocab_size} tokens instead of 5000" in printed


def test_without_matplotlib_the_run_ends_all_the_same(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    printed = succeed("train", "--out", tmp_path / "x", "--corpus", corpus, *TINY)
    assert "no loss.svg: matplotlib is not installed" in printed
    assert {path.name for path in (tmp_path / "x").iterdir()} == FILES - {"loss.svg"}


def test_an_empty_folder_will_do_and_one_with_files_is_refused(corpus, tmp_path):
    out = tmp_path / "x"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    message = refuse("train", "--out", out, "--corpus", corpus, *TINY)
    assert str(out) in message and "--resume" in message
    assert snapshot(out) == {Path("mine.txt"): b"mine"}
    (out / "mine.txt").unlink()
    succeed("train", "--out", out, "--corpus", corpus, *TINY)


def test_interrupted_and_resumed_equals_uninterrupted(finished, corpus, tmp_path, monkeypatch):
    out = tmp_path / "x"
    real = training.Trainer.step

    def step_then_interrupt(self):
        row = real(self)
        if self.step_number == 1:
            signal.raise_signal(signal.SIGINT)
        return row

    monkeypatch.setattr(training.Trainer, "step", step_then_interrupt)
    result = invoke("train", "--out", out, "--corpus", corpus, *TINY)
    assert result.exit_code == 130
    assert f"to go on: course train --out {out} --resume" in result.stdout
    assert training.read_checkpoint(out / "checkpoint.pt")["step"] == 1
    assert not (out / "model.safetensors").exists()
    assert "Once" in succeed("generate", out, "Once", "--max-new-tokens", 1)  # from the checkpoint
    monkeypatch.undo()
    assert "after step 1" in succeed("train", "--out", out, "--resume", "--device", "cpu")
    for name in ("model.safetensors", "history.json", "sample.txt", "loss.svg"):
        assert (out / name).read_bytes() == (finished[0] / name).read_bytes()


def test_resuming_a_finished_run_says_so_and_changes_nothing(run_copy):
    before = snapshot(run_copy)
    assert "is finished: all 3 steps are done" in succeed("train", "--out", run_copy, "--resume")
    assert snapshot(run_copy) == before


def test_resuming_a_finished_run_writes_results_that_are_missing(run_copy, finished):
    (run_copy / "model.safetensors").unlink()
    succeed("train", "--out", run_copy, "--resume", "--device", "cpu")
    restored = (run_copy / "model.safetensors").read_bytes()
    assert restored == (finished[0] / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "gpt2-small"], f"has preset {cli.DEFAULT_PRESET}"),
        (["--corpus", "stories"], "has corpus "),
        (["--tokenizer", "gpt2"], "has its own"),
        (["--max-steps", "9"], "max_steps 3 and not 9"),
        (["--max-steps", "9", "--set", "model.num_layers=2"], "num_layers 1 and not 2"),
        (["--device", "tpu"], "is finished"),
    ],
)
def test_a_run_is_resumed_as_it_was_started(run_copy, options, words):
    before = snapshot(run_copy)
    result = invoke("train", "--out", run_copy, "--resume", *options)
    assert words in result.output
    assert result.exit_code == (0 if words == "is finished" else 2)
    assert snapshot(run_copy) == before


def test_ctrl_c_in_a_process(corpus, tmp_path):
    if os.name == "nt":
        pytest.skip("a signal of this kind ends the process on Windows")
    out = tmp_path / "x"
    command = [sys.executable, "-m", "course_pkg.cli", "train", "--out", out, "--corpus", corpus]
    command += [*TINY, "--max-steps", "1000000", "--set", "training.eval_every=1000000"]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        for line in process.stdout:
            if "loss" in line:
                process.send_signal(signal.SIGINT)
                break
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors == "" and "to go on: course train" in printed
    assert training.read_checkpoint(out / "checkpoint.pt")["step"] >= 1


def test_progress_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with cli._progress("training", 4) as update:
        update("step 2/4  [loss] 5.0", 2)
        update(None, 4)
    shown = capsys.readouterr().out
    assert "[loss]" in shown and "4/4" in shown


# Bad input to train


def bad_corpora(folder):
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (folder / "short.txt").write_text(f"one\n{END_OF_TEXT}\ntwo")
    (folder / "nothing").mkdir()
    return {
        folder / "missing.txt": "no such file",
        folder / "empty.txt": "empty",
        folder / "latin.txt": "not UTF-8",
        folder / "short.txt": "fewer than one window",
        folder / "nothing": "no .txt file",
        "storeis": "Did you mean 'stories'?",
    }


def test_a_bad_corpus_is_one_line_and_leaves_nothing(tmp_path):
    for number, (given, words) in enumerate(bad_corpora(tmp_path).items()):
        out = tmp_path / f"run{number}"
        message = refuse("train", "--out", out, "--corpus", given, *TINY)
        assert words in message
        assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "stroy-1m"], "Did you mean 'story-1m' or"),
        (["--set", "model.num_layer=1"], "Did you mean 'model.num_layers'"),
        (["--set", "num_layers=1"], "is unknown"),
        (["--set", "model.num_layers"], "KEY=VALUE"),
        (["--set", "model.num_layers=-1"], "num_layers=-1 is not allowed"),
        (["--set", "model.num_heads=3"], "not divisible by num_heads=3"),
        (["--max-steps", "0"], "max_steps=0 is not allowed"),
        (["--batch-size", "-1"], "batch_size=-1 is not allowed"),
        (["--learning-rate", "nan"], "learning_rate=nan is not allowed"),
        (["--device", "gpu"], "Allowed: auto, cpu, cuda, mps"),
        (["--tokenizer", "gpt3"], "Did you mean 'gpt2'?"),
    ],
)
def test_a_bad_option_is_one_line_and_leaves_nothing(corpus, tmp_path, options, words):
    out = tmp_path / "x"
    assert words in refuse("train", "--out", out, "--corpus", corpus, *TINY, *options)
    assert not out.exists()


def test_a_device_that_is_not_there(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ("--corpus", corpus, *TINY, "--device", "cuda")
    assert "no such device" in refuse("train", "--out", tmp_path / "x", *options)


def test_nothing_to_resume(tmp_path):
    assert "there is no checkpoint" in refuse("train", "--out", tmp_path / "x", "--resume")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"preset": "story-1m"}', b"\xff"])
def test_a_damaged_run_file(run_copy, content):
    (run_copy / "run.json").write_bytes(content)
    before = snapshot(run_copy)
    assert "run.json is damaged" in refuse("train", "--out", run_copy, "--resume")
    assert snapshot(run_copy) == before


def test_a_truncated_checkpoint(run_copy):
    checkpoint = run_copy / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    before = snapshot(run_copy)
    for command in (("train", "--resume", "--out"), ("generate",), ("info",)):
        assert "truncated or damaged" in refuse(*command, run_copy)
    assert snapshot(run_copy) == before


def fail_writes_after(monkeypatch, successes, number):
    """Make every fsync after the first few fail, as a full or a protected disk does."""
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) > successes:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("successes", range(3))
def test_a_disk_that_is_full_from_the_start_leaves_nothing(
    corpus, tmp_path, monkeypatch, successes
):
    fail_writes_after(monkeypatch, successes, errno.ENOSPC)
    out = tmp_path / "x"
    message = refuse("train", "--out", out, "--corpus", corpus, *TINY)
    assert str(out) in message and os.strerror(errno.ENOSPC) in message
    assert not out.exists()


@pytest.mark.parametrize("successes", range(3, 9))
def test_a_disk_that_fills_up_leaves_what_was_written(
    finished, corpus, tmp_path, monkeypatch, successes
):
    fail_writes_after(monkeypatch, successes, errno.ENOSPC)
    out = tmp_path / "x"
    message = refuse("train", "--out", out, "--corpus", corpus, *TINY)
    assert str(out) in message and os.strerror(errno.ENOSPC) in message
    assert not list(out.glob("*.tmp")) and not list(out.glob(".*.tmp"))
    training.read_checkpoint(out / "checkpoint.pt")
    monkeypatch.undo()
    succeed("train", "--out", out, "--resume", "--device", "cpu")
    expected = (finished[0] / "model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() == expected


def test_no_permission_to_write(corpus, tmp_path, monkeypatch):
    def refuse_folder(self, *arguments, **kw):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    out = tmp_path / "x"
    message = refuse("train", "--out", out, "--corpus", corpus, *TINY)
    assert message == f"{out}: {os.strerror(errno.EACCES)}"


def test_debug_shows_the_traceback(tmp_path):
    result = invoke("--debug", "train", "--out", tmp_path / "x", "--preset", "nothing")
    assert isinstance(result.exception, ValueError)


# course generate


def test_generate_continues_the_prompt(finished):
    one = succeed("generate", finished[0], "Tom said", "--seed", 1)
    assert one.startswith("Tom said") and len(one) > len("Tom said\n")
    assert succeed("generate", finished[0], "Tom said", "--seed", 1) == one
    assert succeed("generate", finished[0], "Tom said", "--seed", 2) != one


def test_generate_is_the_library_s_own(finished):
    from course_pkg.generation import generate

    model, tokenizer = (
        load_pretrained(finished[0]),
        BPETokenizer.load(finished[0] / "tokenizer.json"),
    )
    ids = torch.tensor([tokenizer.encode("the cat")])
    end = tokenizer.end_of_text_id
    new = generate(model, ids, 20, temperature=0.0, stop_ids=(end,))[0].tolist()
    expected = tokenizer.decode([i for i in new if i != end])
    options = ("--temperature", "0", "--max-new-tokens", "20")
    assert succeed("generate", finished[0], "the cat", *options) == expected + "\n"


def test_generate_several_samples(finished):
    options = ("--num-samples", "3", "--seed", "0", "--max-new-tokens", "30")
    printed = succeed("generate", finished[0], "Lily", *options)
    samples = re.split(r"^--- \d of 3\n", printed, flags=re.MULTILINE)[1:]
    assert len(samples) == 3 and len(set(samples)) == 3
    assert all(sample.startswith("Lily") for sample in samples)
    second = succeed("generate", finished[0], "Lily", "--seed", "1", "--max-new-tokens", "30")
    assert samples[1] == second


def test_generate_with_weights_of_8_bits(finished):
    from course_pkg.cache import CachedGPT
    from course_pkg.generation import generate

    tokenizer = BPETokenizer.load(finished[0] / "tokenizer.json")
    reader = CachedGPT(load_pretrained(finished[0]), int8=True)
    ids = torch.tensor([tokenizer.encode("the cat")])
    expected = tokenizer.decode(generate(reader, ids, 9, temperature=0.0)[0].tolist())
    options = ("--temperature", "0", "--max-new-tokens", "9", "--int8")
    assert succeed("generate", finished[0], "the cat", *options) == expected + "\n"


def test_generate_without_a_prompt_begins_a_text(finished):
    assert succeed("generate", finished[0], "--seed", 0).strip()


class Spelling(GPT):
    """Always the next byte of a fixed text, then the end of text."""

    def __init__(self, ids):
        super().__init__(GPTConfig(vocab_size=257, d_model=4, num_heads=1, num_layers=1))
        self.ids = ids

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, 257)
        logits[:, -1, self.ids[ids.shape[1] - 1]] = 100.0
        return logits


def test_streamed_text_is_cut_at_characters():
    tokenizer = BPETokenizer.train("", 257, special_tokens=[END_OF_TEXT])
    text = "né 雪 🙂"
    ids = [*text.encode("utf-8"), 0xE2, 256]  # one byte of a character that is never finished
    pieces = list(cli._continuation(Spelling(ids), tokenizer, "", 50, 0.0, None, None, seed=0))
    assert "".join(pieces) == text + "\ufffd"
    assert [piece for piece in pieces if piece] == [*text, "\ufffd"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/run"], "no such folder"),
        (["stroy-1m"], "is unknown"),
        (["RUN", "x", "--temperature", "-1"], "temperature=-1.0 is not allowed"),
        (["RUN", "x", "--top-k", "0"], "top_k=0 is not allowed"),
        (["RUN", "x", "--top-p", "2"], "top_p=2.0 is not allowed"),
        (["RUN", "x", "--max-new-tokens", "-1"], "max_new_tokens=-1 is not allowed"),
        (["RUN", "\udcff"], "lone surrogate"),
        (["RUN", "x", "--int8", "--mine", "folder"], "--int8 and --mine do not go together"),
    ],
)
def test_generate_refuses_in_one_line(finished, arguments, words):
    arguments = [finished[0] if a == "RUN" else a for a in arguments]
    assert words in refuse("generate", *arguments)


@pytest.fixture
def exported(finished, tmp_path):
    """A folder with a model and no checkpoint."""
    folder = tmp_path / "exported"
    model = load_pretrained(finished[0])
    save_pretrained(model, folder, BPETokenizer.load(finished[0] / "tokenizer.json"))
    return folder


def test_generate_from_an_exported_model(exported, finished):
    for folder in (exported, finished[0]):
        printed = succeed("generate", folder, "the", "--seed", 3)
        assert printed == succeed("generate", finished[0], "the", "--seed", 3)


def test_a_config_with_an_unknown_key(exported):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"num_head": 2}))
    assert "Did you mean 'num_heads'" in refuse("generate", exported, "x")


def test_a_model_of_another_shape(exported):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps(config | {"d_model": 32}))
    assert "token_embedding.weight" in refuse("generate", exported, "x")


def test_a_tokenizer_of_another_model(exported):
    smaller = BPETokenizer.train("a", 257, special_tokens=[END_OF_TEXT])
    smaller.save(exported / "tokenizer.json")
    assert "do not belong together" in refuse("generate", exported, "x")


# course tokenize


def test_tokenize_shows_every_token(finished):
    tokenizer = BPETokenizer.load(finished[0] / "tokenizer.json")
    text = "the cat é 雪" + END_OF_TEXT
    ids = tokenizer.encode(text, allowed_special="all")
    *lines, total = succeed("tokenize", text, "--tokenizer", finished[0]).splitlines()
    assert [int(line.split()[0]) for line in lines] == ids
    assert lines[-1].endswith(repr(END_OF_TEXT)) and any(r"b'\x" in line for line in lines)
    num_bytes = len(text.encode())
    ratio = num_bytes / len(ids)
    assert total == f"{len(ids)} tokens, {num_bytes} bytes, {ratio:.2f} bytes per token"


def test_tokenize_gives_ids_and_reads_the_standard_input(finished):
    tokenizer = BPETokenizer.load(finished[0] / "tokenizer.json")
    expected = " ".join(map(str, tokenizer.encode("hello\nTom"))) + "\n"
    options = ("--ids", "--tokenizer", finished[0] / "tokenizer.json")
    assert succeed("tokenize", "hello\nTom", *options) == expected
    assert succeed("tokenize", "-", *options, input="hello\nTom") == expected
    assert succeed("tokenize", "", *options) == "\n"


def test_tokenize_refuses_in_one_line(finished, tmp_path):
    options = ("--tokenizer", finished[0])
    assert "not UTF-8: byte 0xff at offset 2" in refuse("tokenize", "-", *options, input=b"ab\xff")
    assert "Did you mean" in refuse("tokenize", "x", "--tokenizer", "storys")
    assert str(tmp_path / "no.json") in refuse("tokenize", "x", "--tokenizer", tmp_path / "no.json")
    assert "not a tokenizer" in refuse("tokenize", "x", "--tokenizer", finished[0] / "config.json")


# course encode


def test_encode_makes_the_token_file_of_the_corpus(finished, corpus, tmp_path):
    tokenizer = BPETokenizer.load(finished[0] / "tokenizer.json")
    out = tmp_path / "ids.bin"
    printed = succeed("encode", corpus, "--tokenizer", finished[0], "--out", out, "--workers", 2)
    ids = open_token_file(out, tokenizer)
    assert torch.equal(ids.long(), encode_documents(load_corpus(corpus).documents, tokenizer))
    size = corpus.stat().st_size
    ratio = f"{size / len(ids):.2f} bytes per token"
    assert printed == f"{len(ids):,} tokens in {out}, {size:,} bytes of text, {ratio}\n"
    assert list(tmp_path.iterdir()) == [out]


def test_a_stopped_encode_says_how_to_go_on(finished, corpus, tmp_path, monkeypatch):
    out = tmp_path / "my ids.bin"
    arguments = ("encode", corpus, "--tokenizer", finished[0], "--out", out)
    write = PartStore.write

    def stop(store, part, ids):
        write(store, part, ids)
        raise KeyboardInterrupt

    monkeypatch.setattr(PartStore, "write", stop)
    result = invoke(*arguments, "--workers", 1)
    assert result.exit_code == 130
    said = "stopped; to go on: course "
    assert result.stderr.startswith(said)
    monkeypatch.undo()
    assert "my ids.bin.parts holds what a run that was stopped has done" in refuse(*arguments)
    succeed(*shlex.split(result.stderr.removeprefix(said)))
    assert list(tmp_path.iterdir()) == [out]
    assert len(open_token_file(out)) > 0


def test_encode_shows_its_progress_in_a_terminal(finished, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    options = ("--tokenizer", finished[0], "--out", tmp_path / "ids.bin", "--workers", 1)
    size = corpus.stat().st_size
    assert f"{size}/{size}" in succeed("encode", corpus, *options)


def test_encode_refuses_in_one_line(finished, corpus, tmp_path, monkeypatch):
    options = ("--tokenizer", finished[0], "--out", tmp_path / "ids.bin")
    assert "no.txt" in refuse("encode", tmp_path / "no.txt", *options)
    assert "workers=0 is not allowed" in refuse("encode", corpus, *options, "--workers", 0)
    for path, words in bad_corpora(tmp_path).items():
        if "empty" in words or "UTF-8" in words:
            assert words in refuse("encode", path, *options)
    assert "Did you mean" in refuse("encode", corpus, *options, "--tokenizer", "storys")

    def die(*arguments):
        raise ChildProcessError("a worker process ended")

    monkeypatch.setattr(data, "ordered_map", die)
    assert refuse("encode", corpus, *options) == "a worker process ended"


# course info


def test_info_of_a_preset():
    printed = succeed("info", "gpt2-small")
    assert "124,439,808 parameters" in printed
    for name, value in PRESETS["gpt2-small"].model.to_dict().items():
        assert re.search(rf"^  {name} +{value}$", printed, re.MULTILINE)


def test_info_of_a_run(finished):
    printed = succeed("info", finished[0])
    model = load_pretrained(finished[0])
    assert f"{model.num_parameters():,} parameters" in printed
    assert "steps done: 3 of 3" in printed
    history = json.loads((finished[0] / "history.json").read_text())
    loss = history["evaluations"]["validation_loss"][-1]
    assert f"validation loss at step 3: {loss:.4f} nats per token" in printed
    for file in finished[0].iterdir():
        assert re.search(rf"{file.name} +{file.stat().st_size:,} bytes", printed)


def test_info_of_an_exported_model(exported):
    printed = succeed("info", exported)
    assert "tokenizer: 280 tokens" in printed


def test_info_refuses_in_one_line(tmp_path):
    assert "Did you mean 'gpt2-small'" in refuse("info", "gpt2-smal")
    assert "no such folder" in refuse("info", tmp_path / "nothing")


def test_info_of_everything(monkeypatch):
    printed = succeed("info")
    assert course_pkg.__version__ in printed and torch.__version__ in printed
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            count = GPT(preset.model).num_parameters()
        assert re.search(rf"^  {name} +{count:,} parameters$", printed, re.MULTILINE)
    stories = load_corpus("stories")
    assert f"{stories.num_documents:,} documents, {stories.num_bytes:,} bytes" in printed


def test_the_corpora_are_those_that_can_be_loaded():
    with pytest.raises(ValueError) as caught:
        load_corpus("no-such-corpus")
    allowed = str(caught.value).partition("Allowed: ")[2].rstrip(".").split(", ")
    assert sorted(cli.CORPORA) == allowed


# The process


def test_help_is_there_and_imports_no_torch():
    code = (
        "import sys\nfrom course_pkg.cli import course\n"
        "for command in ([], ['train'], ['generate'], ['tokenize'], ['info']):\n"
        "    course([*command, '--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'tiktoken') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    *_, imported = result.stdout.splitlines()
    assert imported == "[]"
    for word in ("--preset", "--resume", "--top-p", "--ids", "generate"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "gpt2-smal"], "Did you mean 'gpt2-small'"),
        (["train", "--out", "x", "--set", "model.num_layers=two"], "num_layers='two'"),
    ],
)
def test_an_error_in_a_process(tmp_path, arguments, words):
    command = [sys.executable, "-m", "course_pkg.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(course_pkg.__file__).parents[1])}
    result = subprocess.run(
        command, capture_output=True, encoding="utf-8", cwd=tmp_path, env=environment
    )
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("course: error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_commands_of_the_readme_run_as_they_stand(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    readme = (root / "README.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("course ")]
    told = {shlex.split(line)[1] for line in lines}
    assert told == set(course.commands)
    (tmp_path / "exercises").mkdir()
    shutil.copy(root / "exercises" / "03_multi_head_attention.ipynb", tmp_path / "exercises")
    for folder in ("book", "solutions", "submissions/ada"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(root / "solutions" / "03_multi_head_attention.md", tmp_path / "solutions")
    shutil.copy(root / "solutions" / "03_multi_head_attention.ipynb", tmp_path / "submissions/ada")
    (tmp_path / "corpus.txt").write_text("Once upon a time", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        _, *arguments = shlex.split(line)
        if arguments[0] in ("verify", "grade", "report") and isinstance(sandboxes.found(), str):
            continue
        if arguments[0] == "train":  # as it stands, but for two steps of it
            arguments += ["--max-steps", "2", "--set", "training.eval_batches=1"]
        assert succeed(*arguments).strip()
    assert (tmp_path / "runs/first/model.safetensors").is_file()
    assert (tmp_path / "runs/corpus.bin").is_file()
    assert (tmp_path / "exercises/03_multi_head_attention.ipynb").is_file()
    assert (tmp_path / "handout/03_multi_head_attention.ipynb").is_file()
    if not isinstance(sandboxes.found(), str):
        assert '"ada"' in (tmp_path / "grades/grades.csv").read_text("utf-8")
