"""Training in two processes that torchrun starts, without a network."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch
from click.testing import CliRunner

import course_pkg
from course_pkg import cli, distributed
from course_pkg.cli import course
from course_pkg.tokenizer import END_OF_TEXT
from course_pkg.training import StepRecord, Trainer, load_model, read_checkpoint
from course_pkg.weights import load_pretrained

ROOT = Path(course_pkg.__file__).parents[1]
pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="torchrun's signals are those of POSIX"
)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = ("-m", "course_pkg.train")
MODEL = {"num_layers": 1, "num_heads": 2, "d_model": 16, "context_length": 32, "vocab_size": 280}
MODEL["qkv_bias"] = False  # as in ranks.MODEL
OPTIONS = [
    *(word for key, value in MODEL.items() for word in ("--set", f"model.{key}={value}")),
    *("--set", "training.eval_batches=1", "--set", "training.log_every=1", "--device", "cpu"),
    *("--batch-size", "3", "--set", "training.checkpoint_every=5"),
]


def start(*arguments, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [*TORCHRUN, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def said(errors: str) -> list[str]:
    """The course's own lines among torchrun's."""
    return [line for line in errors.splitlines() if line.startswith("course: error: ")]


def history_of(trainer: Trainer) -> dict:
    return {"history": trainer.history.to_dict(), "model": trainer.model.state_dict()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What two ranks left; ``ranks.main`` says how."""
    folder = tmp_path_factory.mktemp("ranks")

    def stop(record):
        if isinstance(record, StepRecord) and record.step == ranks.STOP:
            raise KeyboardInterrupt

    place = folder / "alone then ddp"
    Trainer(ranks.model(), *ranks.SPLITS, ranks.recipe(), place, stop).train()
    process = start(ranks.__file__, folder)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert printed == ""
    return folder


@pytest.fixture(scope="module")
def alone() -> dict:
    trainer = Trainer(ranks.model(), *ranks.SPLITS, ranks.recipe(), on_log=ranks.quiet)
    trainer.train()
    return history_of(trainer)


def left(folder: Path, name: str) -> dict:
    return torch.load(folder / f"{name}.pt", weights_only=True)


def assert_close(left: dict, right: dict, tolerance: float = 1e-5) -> None:
    for kind in ("rows", "evaluations"):
        for name, column in left["history"][kind].items():
            # A norm adds up what all gradients differ by; the loss is what must agree.
            room = 10 * tolerance if name == "grad_norm" else tolerance
            assert column == pytest.approx(right["history"][kind][name], abs=room), name
    assert left["model"].keys() == right["model"].keys()
    for name, tensor in left["model"].items():
        torch.testing.assert_close(tensor, right["model"][name], rtol=0, atol=tolerance)


def assert_equal(left: dict, right: dict) -> None:
    assert left["history"] == right["history"]
    for name, tensor in left["model"].items():
        assert torch.equal(tensor, right["model"][name]), name


def notes(folder: Path, name: str) -> list[str]:
    return [(folder / f"{name}.{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]


@pytest.mark.parametrize("name", ranks.RUNS)
def test_two_ranks_are_one(folder, name):
    changes = {key: value for key, value in ranks.RUNS[name].items() if key != "parallel"}
    trainer = Trainer(ranks.model(), *ranks.SPLITS, ranks.recipe(**changes), on_log=ranks.quiet)
    trainer.train()
    assert_close(left(folder, name), history_of(trainer), 0.05 if "bfloat16" in name else 1e-5)


@pytest.mark.parametrize(
    "name", ["ddp then fsdp", "fsdp then ddp", "fsdp then fsdp", "alone then ddp"]
)
def test_a_run_goes_on_with_others(folder, alone, name):
    assert_close(left(folder, name), alone)
    files = {path.name for path in (folder / name).iterdir()}
    shards = {file for file in files if file.endswith(".shards")}
    assert files - shards == {"checkpoint.pt"}
    assert len(shards) == (1 if name.endswith("fsdp") else 0)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_goes_on_alone(folder, alone, tmp_path, parallel):
    path = folder / f"stopped {parallel}" / "checkpoint.pt"
    content = read_checkpoint(path)
    assert content["step"] == ranks.STOP
    trainer = Trainer(ranks.model(seed=5), *ranks.SPLITS, ranks.recipe(), on_log=ranks.quiet)
    trainer.load(path)
    loaded = load_model(path)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    trainer.train()
    assert_close(history_of(trainer), alone)


def test_shards_and_one_file_hold_the_same(folder):
    one, many = (
        read_checkpoint(folder / f"stopped {parallel}" / "checkpoint.pt")
        for parallel in ("ddp", "fsdp")
    )
    assert one.keys() == many.keys()
    for part in ("model", "optimizer"):
        assert one[part].keys() == many[part].keys()
    assert one["optimizer"]["param_groups"] == many["optimizer"]["param_groups"]
    for i, state in one["optimizer"]["state"].items():
        for name, tensor in state.items():
            torch.testing.assert_close(many["optimizer"]["state"][i][name], tensor)


def test_missing_shards_are_named(folder, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes((folder / "stopped fsdp" / "checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"\.shards: the shards of .* are missing or damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_signal_to_one_rank_ends_all_after_the_step_and_saves_once(folder, parallel):
    out = f"stopped {parallel}"
    first, second = notes(folder, out)
    assert first.count("interrupted: saved to") == 1 and second == ""


def test_dropout_differs_between_ranks_and_repeats(folder):
    assert_equal(left(folder, "dropout"), left(folder, "dropout again"))
    first, second = map(json.loads, notes(folder, "drawn"))
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("few rows", "batch_size=1 is not allowed: each of 2 processes needs a row"),
        ("both", "compile=True is not allowed with parallel='fsdp'"),
        ("not finite", "the gradient norm is nan at step 2, in micro-batch 1 of 1"),
        ("full disk ddp", "the checkpoint cannot be saved: No space left on device"),
        ("full disk fsdp", "the checkpoint cannot be saved: No space left on device"),
    ],
)
def test_an_error_of_one_rank_is_that_of_all(folder, name, words):
    first, second = notes(folder, name)
    assert words in first and first == second


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_full_disk_leaves_the_checkpoint_before(folder, parallel):
    place = folder / f"full disk {parallel}"
    assert read_checkpoint(place / "checkpoint.pt")["step"] == 10
    assert len(list(place.iterdir())) == (2 if parallel == "fsdp" else 1)


# The program


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    generator = torch.Generator().manual_seed(0)
    words = ["the", "cat", "dog", "sat", "on", "mat", "Tom", "Lily", "big", "ball", "and", "then"]
    documents = [
        " ".join(words[i] for i in torch.randint(12, (60,), generator=generator)) for _ in range(30)
    ]
    path = tmp_path_factory.mktemp("corpus") / "tales.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(documents), encoding="utf-8")
    return path


def results(out: Path) -> dict:
    return {
        "history": json.loads((out / "history.json").read_text(encoding="utf-8")),
        "model": load_pretrained(out).state_dict(),
    }


def workers(process: subprocess.Popen) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process.pid).children()]


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.stderr.read())


def test_a_killed_rank_leads_to_a_restart_and_the_same_end(corpus, tmp_path):
    options = ("--corpus", corpus, *OPTIONS, "--max-steps", 100, "--set", "training.eval_every=50")
    out, whole = tmp_path / "x", tmp_path / "whole"
    process = start("--max-restarts", 1, *TRAIN, "--out", out, *options)
    wait_for(process, "step  17/100")
    os.kill(workers(process)[1], signal.SIGKILL)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    resumed = re.search(r"resuming .* after step (\d+)", printed)
    assert resumed and int(resumed[1]) >= 15 and int(resumed[1]) % 5 == 0
    process = start(*TRAIN, "--out", whole, *options)
    printed, errors = process.communicate()
    assert process.returncode == 0 and not said(errors), errors
    assert printed.count("step   1/100") == 1
    assert_equal(results(out), results(whole))
    # The same run in one process: what several need is in the run's folder as ever.
    alone = tmp_path / "alone"
    assert (
        not CliRunner().invoke(course, ["train", "--out", str(alone), *map(str, options)]).exit_code
    )
    assert_close(results(alone), results(whole))
    assert {path.name for path in out.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.parametrize(
    ("attempt", "job", "files", "found"),
    [
        ("0", "ours", ("run.json", "checkpoint.pt"), None),
        ("1", "theirs", ("run.json", "checkpoint.pt"), None),
        ("1", "ours", (), None),
        ("1", "ours", ("run.json",), "folder"),
        ("1", "ours", ("run.json", "checkpoint.pt"), "checkpoint"),
    ],
)
def test_a_restart_takes_up_its_own_run_only(tmp_path, monkeypatch, attempt, job, files, found):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    for name in files:
        run = {"preset": "story-1m", "corpus": "stories", "job": job}
        (tmp_path / name).write_text(json.dumps(run), encoding="utf-8")
    assert cli._begun(tmp_path) == found


def test_jobs_without_a_name_are_told_apart(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert distributed.job() == f"none-{os.getppid()}"


def test_a_signal_to_torchrun_saves_and_one_process_goes_on(corpus, tmp_path):
    out = tmp_path / "x"
    # The default's optimizer needs whole matrices.
    options = ("--preset", "story-1m", "--corpus", corpus, *OPTIONS)
    options = (*options, "--max-steps", 100_000, "--set")
    process = start(
        *TRAIN,
        "--out",
        out,
        *options,
        "training.parallel=fsdp",
        "--set",
        "training.eval_every=99999",
    )
    wait_for(process, "step      3/")
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate()
    assert process.returncode != 0 and not said(errors), errors
    assert printed.count("interrupted: saved to") == 1
    step = read_checkpoint(out / "checkpoint.pt")["step"]
    assert step >= 3
    assert {path.suffix for path in out.iterdir()} == {".json", ".pt", ".shards"}
    shown = CliRunner().invoke(course, ["info", str(out)])
    assert f"steps done: {step:,} of 100,000" in shown.output, shown.output


def test_what_is_refused_is_said_once(corpus, tmp_path):
    process = start(*TRAIN, "--out", tmp_path / "x", "--corpus", corpus, *OPTIONS, "--mine", ".")
    _, errors = process.communicate()
    assert process.returncode != 0
    assert said(errors) == [
        "course: error: --mine trains in one process: start it with `course train`."
    ]
    assert "course_pkg/" not in errors and not (tmp_path / "x").exists()


def test_the_program_does_not_hide_the_function():
    with pytest.raises(ImportError, match="from course_pkg import train"):
        importlib.import_module("course_pkg.train")
    assert course_pkg.train is course_pkg.training.train
