"""The loss, the schedule, the trainer and its checkpoints."""

import copy
import dataclasses
import errno
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_pkg import files
from course_pkg.config import GPTConfig, TrainingConfig
from course_pkg.data import random_batches
from course_pkg.devices import bfloat16_is_faster, choose_device
from course_pkg.gpt import GPT
from course_pkg.loss import chunked_cross_entropy
from course_pkg.training import (
    IGNORE_INDEX,
    EvaluationRecord,
    History,
    MessageRecord,
    StepRecord,
    Trainer,
    accumulate_gradients,
    bits_per_byte,
    cross_entropy,
    format_record,
    learning_rate_at,
    load_model,
    perplexity,
    read_checkpoint,
    train,
)

MODEL = GPTConfig(
    vocab_size=13, context_length=6, d_model=8, num_heads=2, num_layers=1, dropout=0.2
)
RECIPE = TrainingConfig(
    max_steps=9,
    batch_size=3,
    accumulation_steps=2,
    learning_rate=1e-2,
    min_lr=1e-3,
    warmup_steps=3,
    eval_every=4,
    eval_batches=2,
    log_every=2,
    checkpoint_every=3,
    seed=7,
)


def new_model(config: GPTConfig = MODEL, seed: int = 0, dtype: torch.dtype = torch.float32) -> GPT:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT(config).to(dtype)


def ids_of(count: int, seed: int) -> torch.Tensor:
    return torch.randint(MODEL.vocab_size, (count,), generator=torch.Generator().manual_seed(seed))


TRAIN_IDS, VALIDATION_IDS = ids_of(200, 1), ids_of(50, 2)


def quiet(record: object) -> None:
    pass


def trainer_of(config: TrainingConfig = RECIPE, model: GPT | None = None, **options) -> Trainer:
    options = {"on_log": quiet, **options}
    return Trainer(model or new_model(), TRAIN_IDS, VALIDATION_IDS, config, **options)


def everything(trainer: Trainer) -> dict:
    """All that decides the rest of a run, as its checkpoint keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder) / "checkpoint.pt")
        return read_checkpoint(Path(folder) / "checkpoint.pt")


def assert_same(a, b, where: str = "") -> None:
    """Equal bit for bit, however deep."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def uninterrupted() -> dict:
    trainer = trainer_of()
    trainer.train()
    assert trainer.step_number == RECIPE.max_steps
    return everything(trainer)


# Loss and what is made of it


@given(st.integers(0, 999), st.lists(st.booleans(), min_size=12, max_size=12))
def test_cross_entropy_is_the_mean_of_minus_log_probability(seed, ignored):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(5, (3, 4), generator=generator)
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    targets[torch.tensor(ignored).view(3, 4)] = IGNORE_INDEX
    losses = [
        -math.log(probabilities[b, t, targets[b, t]])
        for b in range(3)
        for t in range(4)
        if targets[b, t] != IGNORE_INDEX
    ]
    assert cross_entropy(logits, targets, "sum").item() == pytest.approx(sum(losses))
    if losses:
        assert cross_entropy(logits, targets).item() == pytest.approx(np.mean(losses))


def test_equal_logits_give_the_vocabulary_as_perplexity():
    loss = cross_entropy(torch.zeros(2, 3, 50), torch.zeros(2, 3, dtype=torch.long)).item()
    assert perplexity(loss) == pytest.approx(50)
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_bits_per_byte():
    # Each of 256 bytes as likely as the next: eight bits a byte. Two bytes a token: half.
    assert bits_per_byte(math.log(256), 1000, 1000) == pytest.approx(8)
    assert bits_per_byte(math.log(256), 500, 1000) == pytest.approx(4)
    with pytest.raises(ValueError, match="num_bytes=0"):
        bits_per_byte(1.0, 1, 0)


# The schedule


@st.composite
def schedules(draw) -> TrainingConfig:
    max_steps = draw(st.integers(1, 200))
    rate = draw(st.floats(1e-6, 1.0))
    return dataclasses.replace(
        RECIPE,
        max_steps=max_steps,
        warmup_steps=draw(st.integers(0, max_steps)),
        learning_rate=rate,
        min_lr=rate * draw(st.floats(0, 1)),
    )


@given(schedules())
def test_the_schedule_rises_to_the_peak_and_falls_to_the_minimum(config):
    rates = [learning_rate_at(step, config) for step in range(config.max_steps + 3)]
    warmup = config.warmup_steps
    if warmup:
        assert rates[0] == 0
    if warmup < config.max_steps:
        assert rates[warmup] == pytest.approx(config.learning_rate, rel=1e-12)
    assert rates[config.max_steps :] == [config.min_lr] * 3
    assert all(a < b for a, b in itertools.pairwise(rates[:warmup]))
    falling = rates[warmup:]
    assert all(a >= b for a, b in itertools.pairwise(falling))
    assert max(rates) <= config.learning_rate * (1 + 1e-12)


@given(schedules().filter(lambda config: 1 < config.warmup_steps < config.max_steps - 1))
@settings(max_examples=30)
def test_the_schedule_is_pytorchs_linear_then_cosine(config):
    schedulers = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.learning_rate)
    warmup, rest = config.warmup_steps, config.max_steps - config.warmup_steps
    cosine = schedulers.CosineAnnealingLR(optimizer, rest, eta_min=config.min_lr)
    for step in range(warmup, config.max_steps + 1):
        rate = optimizer.param_groups[0]["lr"]
        assert learning_rate_at(step, config) == pytest.approx(rate, rel=1e-6, abs=1e-12)
        optimizer.step()
        cosine.step()
    for step in range(warmup):
        expected = step * learning_rate_at(1, config)
        assert learning_rate_at(step, config) == pytest.approx(expected)


# One update


def test_only_matrices_decay():
    model = new_model()
    trainer = trainer_of(dataclasses.replace(RECIPE, weight_decay=0.5), model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.5 * RECIPE.learning_rate if parameter.ndim >= 2 else 1
        torch.testing.assert_close(parameter, factor * before[name], msg=name)


def micro_batches_with_gaps() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three batches in which 18, 7 and 0 targets count."""
    batches = random_batches(TRAIN_IDS, 3, 6, torch.Generator().manual_seed(0))
    result = [next(batches) for _ in range(3)]
    result[1][1].view(-1)[7:] = IGNORE_INDEX
    result[2][1].fill_(IGNORE_INDEX)
    return result


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_accumulation_is_the_large_batch_with_unequal_numbers_of_targets():
    model = new_model(dataclasses.replace(MODEL, dropout=0.0), dtype=torch.float64)
    batches = micro_batches_with_gaps()
    loss, num_targets = accumulate_gradients(model, batches)
    accumulated = gradients(model)
    assert num_targets == 25

    model.zero_grad()
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    large = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=-100)
    large.backward()
    assert loss == pytest.approx(large.item(), rel=1e-12)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-9, atol=1e-14)

    # The usual mistake, the mean of the batches' means, is far from it.
    model.zero_grad()
    for inputs, targets in batches[:2]:
        (cross_entropy(model(inputs), targets) / 2).backward()
    wrong = gradients(model)
    assert any(not torch.allclose(wrong[name], accumulated[name], rtol=1e-2) for name in wrong)


def test_a_step_without_targets_is_refused():
    [*_, nothing] = micro_batches_with_gaps()
    with pytest.raises(ValueError, match="all targets are IGNORE_INDEX"):
        accumulate_gradients(new_model(), [nothing])


def test_small_batches_accumulated_train_as_one_large_batch():
    results = []
    for batch_size, accumulation_steps in ((2, 3), (6, 1)):
        config = dataclasses.replace(
            RECIPE, batch_size=batch_size, accumulation_steps=accumulation_steps
        )
        model = new_model(dataclasses.replace(MODEL, dropout=0.0), dtype=torch.float64)
        results.append((trainer_of(config, model).train(), model.state_dict()))
    (small_history, small), (large_history, large) = results
    for row, expected in zip(small_history.rows, large_history.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-9)
    for name in small:
        torch.testing.assert_close(small[name], large[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_trainer_is_the_loop_that_one_would_write_by_hand(dropout):
    config = dataclasses.replace(RECIPE, accumulation_steps=1, grad_clip=0.3)
    shape = dataclasses.replace(MODEL, dropout=dropout)
    model, by_hand = (new_model(shape, dtype=torch.float64) for _ in range(2))
    history = trainer_of(config, model).train()

    groups = [
        {"params": [p for p in by_hand.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in by_hand.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    batches = random_batches(TRAIN_IDS, 3, 6, torch.Generator().manual_seed(config.seed))
    torch.manual_seed(config.seed + 2)  # dropout's stream, drawn from step after step
    for step in range(1, config.max_steps + 1):
        inputs, targets = next(batches)
        loss = F.cross_entropy(by_hand(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in by_hand.parameters()]).norm()
        for parameter in by_hand.parameters():
            parameter.grad *= min(1.0, 0.3 / (norm.item() + 1e-6))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        optimizer.step()
        row = history.rows[step - 1]
        assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-9)
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-9)
        assert row["learning_rate"] == learning_rate_at(step, config)
        assert row["tokens"] == step * 3 * 6
    assert any(row["grad_norm"] > 0.3 for row in history.rows)  # so clipping was at work
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9)


def test_without_clipping_the_gradient_is_used_as_it_is():
    def weights(clip):
        model = new_model()
        trainer_of(dataclasses.replace(RECIPE, grad_clip=clip), model).step()
        return model.state_dict()

    assert_same(weights(None), weights(1e9))


def test_it_overfits_one_batch():
    model = new_model(dataclasses.replace(MODEL, d_model=32, dropout=0.0))
    window = torch.tensor([3, 1, 4, 1, 5, 9, 2])  # one window: every batch is the same
    config = dataclasses.replace(
        RECIPE, max_steps=150, batch_size=1, accumulation_steps=1, eval_every=150
    )
    history = Trainer(model, window, window, config, on_log=quiet).train()
    first, last = history.evaluations
    assert first["step"] == 0 and abs(first["train_loss"] - math.log(13)) < 0.3
    assert last["train_loss"] < 0.02
    assert model(window[None, :-1]).argmax(-1).tolist() == [window[1:].tolist()]


def test_it_trains_in_other_dtypes():
    model = new_model(dtype=torch.bfloat16)
    history = trainer_of(model=model).train()
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    assert len(history.rows) == RECIPE.max_steps


# What must not change a run


def test_evaluation_logging_and_the_callers_random_numbers_do_not_change_training(uninterrupted):
    torch.manual_seed(99)

    def busy(record):
        torch.rand(3)
        model.eval()  # as a callback that samples from the model would

    model = new_model()
    config = dataclasses.replace(RECIPE, eval_every=1, eval_batches=5, log_every=1)
    trainer = trainer_of(config, model, on_log=busy)
    trainer.train()
    busy_run = everything(trainer)
    for key in ("model", "optimizer", "data_position", "random_state", "step"):
        assert_same(busy_run[key], uninterrupted[key], key)
    assert busy_run["history"]["rows"] == uninterrupted["history"]["rows"]
    assert len(busy_run["history"]["evaluations"]["step"]) == RECIPE.max_steps + 1


def test_training_leaves_the_callers_random_state_and_the_models_mode():
    model = new_model()
    model.eval()
    model.blocks[0].train()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    trainer = trainer_of(model=model)
    trainer.train()
    trainer.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes


def test_dropout_is_on_in_training_and_follows_the_seed():
    def weights(**changes):
        model = new_model()
        trainer_of(dataclasses.replace(RECIPE, **changes), model).step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights(seed=8))
    no_dropout = new_model(dataclasses.replace(MODEL, dropout=0.0))
    trainer_of(model=no_dropout).step()
    assert not torch.equal(
        weights(), torch.cat([p.detach().flatten() for p in no_dropout.parameters()])
    )


def test_evaluation_is_the_mean_loss_of_fixed_batches_without_dropout():
    trainer = trainer_of()
    first = trainer.evaluate()
    assert trainer.evaluate() == first
    model = copy.deepcopy(trainer.model).eval()
    for split, ids in (("train", TRAIN_IDS), ("validation", VALIDATION_IDS)):
        generator = torch.Generator().manual_seed(RECIPE.seed + 1)
        batches = random_batches(ids, RECIPE.batch_size, MODEL.context_length, generator)
        first_two = itertools.islice(batches, RECIPE.eval_batches)
        losses = [cross_entropy(model(x), y).item() for x, y in first_two]
        assert first[split] == pytest.approx(np.mean(losses), rel=1e-6)


def test_ids_from_a_memory_map_train_alike(uninterrupted):
    trainer = Trainer(
        new_model(),
        TRAIN_IDS.to(torch.uint16),
        VALIDATION_IDS.to(torch.uint32),
        RECIPE,
        on_log=quiet,
    )
    trainer.train()
    assert_same(everything(trainer), uninterrupted)


def test_it_trains_outside_the_main_thread(uninterrupted):
    trainer = trainer_of()
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert_same(everything(trainer), uninterrupted)


@pytest.mark.parametrize("where", ["in the data", "in the model", "in the gradient"])
def test_a_step_that_fails_can_be_tried_again(monkeypatch, uninterrupted, where):
    def fail(*_):
        raise RuntimeError("out of memory")

    trainer = trainer_of()
    trainer._evaluate_if_due()
    with monkeypatch.context() as patch:
        if where == "in the data":
            patch.setattr("course_pkg.data._window", fail)
        elif where == "in the model":
            patch.setattr(trainer.model.final_norm, "forward", fail)
        else:
            patch.setattr("torch.nn.utils.clip_grad_norm_", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer.step()
    trainer.train()
    assert_same(everything(trainer), uninterrupted)


# Records and history


def test_the_cadence_of_records():
    records = []
    history = trainer_of(on_log=records.append, bytes_per_token=2.0).train()
    steps = [r.step for r in records if isinstance(r, StepRecord)]
    evaluations = [r for r in records if isinstance(r, EvaluationRecord)]
    assert steps == [2, 4, 6, 8, 9]
    assert [r.step for r in evaluations] == [0, 4, 8, 9]
    assert [r.step for r in records] == sorted(r.step for r in records)
    assert [row["step"] for row in history.rows] == list(range(1, 10))
    for record, row in zip(evaluations, history.evaluations, strict=True):
        assert record.validation_loss == row["validation_loss"]
        assert record.perplexity == pytest.approx(math.exp(record.validation_loss))
        bits = record.validation_loss / math.log(2) / 2
        assert record.bits_per_byte == pytest.approx(bits)
    for record in records:
        if isinstance(record, StepRecord):
            row = history.rows[record.step - 1]
            assert row.items() <= dataclasses.asdict(record).items()
            assert record.tokens_per_second > 0 and record.seconds_left >= 0


def test_records_print_as_lines_and_repeat_without_times(capsys):
    Trainer(new_model(), TRAIN_IDS, VALIDATION_IDS, RECIPE).train()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert all("tokens/s" in line and "left" in line for line in lines if "lr" in line)
    runs = []
    for _ in range(2):
        runs.append([])
        trainer_of(on_log=lambda r: runs[-1].append(format_record(r, timing=False))).train()
    assert runs[0] == runs[1]
    assert not any("tokens/s" in line or "left" in line for line in runs[0])


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3725.0, "1:02:05")])
def test_the_time_left(seconds, text):
    record = StepRecord(1, 10, 2.0, 1e-3, 1.0, 100, 1234.5, seconds)
    assert str(record).endswith(f"1,234 tokens/s  {text} left")


def test_a_message_record_prints_its_message():
    assert str(MessageRecord(3, 100, "resumed")) == "step   3/100  resumed"


def test_history_survives_json_and_plots():
    history = trainer_of().train()
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again == history and again.rows == history.rows
    steps, losses = history.curve("train_loss")
    assert steps.tolist() == list(range(1, 10))
    assert losses.tolist() == [row["train_loss"] for row in history.rows]
    steps, losses = history.evaluation_curve("validation_loss")
    assert steps.tolist() == [0, 4, 8, 9] and losses.dtype == float
    with pytest.raises(ValueError, match="Did you mean 'train_loss'"):
        history.curve("train_los")
    with pytest.raises(ValueError, match="validation_loss"):
        history.curve("validation_loss")
    assert History() == History() and History() != history


# Checkpoints


@pytest.mark.parametrize("stop", range(RECIPE.max_steps + 1))
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, uninterrupted, stop):
    trainer = trainer_of()
    if stop > 0:
        trainer._evaluate_if_due()
    for _ in range(stop):
        trainer.step()
        trainer._evaluate_if_due()
    trainer.save(tmp_path / "checkpoint.pt")
    torch.manual_seed(stop)  # what the new process's random state happens to be
    resumed = trainer_of(model=new_model(seed=100), out_dir=tmp_path)
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.step_number == stop
    assert_same(everything(resumed), everything(trainer))
    history = resumed.train()
    assert_same(everything(resumed), uninterrupted)
    assert history.to_dict() == uninterrupted["history"]
    assert_same(read_checkpoint(tmp_path / "checkpoint.pt"), uninterrupted)


def test_a_run_with_muon_resumes(tmp_path):
    muon = dataclasses.replace(RECIPE, optimizer="muon")
    whole = trainer_of(muon)
    whole.train()
    stopped = trainer_of(muon)
    stopped._evaluate_if_due()
    for _ in range(5):
        stopped.step()
        stopped._evaluate_if_due()
    stopped.save(tmp_path / "checkpoint.pt")
    resumed = trainer_of(muon, new_model(seed=100))
    resumed.load(tmp_path / "checkpoint.pt")
    resumed.train()
    assert_same(everything(resumed), everything(whole))
    plain = trainer_of()
    plain.train()
    assert plain.history.rows[0]["train_loss"] == whole.history.rows[0]["train_loss"]
    assert plain.history.rows[-1]["train_loss"] != whole.history.rows[-1]["train_loss"]


def test_a_finished_run_leaves_its_checkpoint_and_its_model(tmp_path, uninterrupted):
    model = new_model()
    train(model, TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path / "a" / "b", on_log=quiet)
    path = tmp_path / "a" / "b" / "checkpoint.pt"
    assert list(path.parent.iterdir()) == [path]
    assert_same(read_checkpoint(path), uninterrupted)
    loaded = load_model(path)
    assert not loaded.training and loaded.config == MODEL
    assert_same(loaded.state_dict(), model.state_dict())
    assert loaded.output_head.weight is loaded.token_embedding.weight
    # Resuming a finished run changes nothing.
    train(model, TRAIN_IDS, VALIDATION_IDS, RECIPE, path.parent, resume=True, on_log=quiet)
    assert_same(read_checkpoint(path), uninterrupted)


def test_a_resumed_run_may_look_more_often(tmp_path, uninterrupted):
    partial_run(tmp_path)
    config = dataclasses.replace(
        RECIPE, eval_every=2, eval_batches=1, log_every=1, checkpoint_every=1
    )
    records = []
    model = new_model(seed=100)
    train(model, TRAIN_IDS, VALIDATION_IDS, config, tmp_path, resume=True, on_log=records.append)
    assert "resumed from" in str(records[0])
    assert_same(dict(model.state_dict()), dict(uninterrupted["model"]))


def partial_run(out_dir: Path, stop: int = 5) -> None:
    """Leave the checkpoint of a run that was interrupted after ``stop`` steps."""

    def interrupt(record):
        if isinstance(record, StepRecord) and record.step == stop:
            raise KeyboardInterrupt

    config = dataclasses.replace(RECIPE, log_every=1)
    train(new_model(), TRAIN_IDS, VALIDATION_IDS, config, out_dir, on_log=interrupt)


@pytest.mark.parametrize("how", ["signal", "raised in on_log", "raised in the model"])
def test_an_interrupt_saves_and_the_run_can_go_on(tmp_path, uninterrupted, how):
    records = []

    def interrupt(*_):
        if how == "signal":
            signal.raise_signal(signal.SIGINT)
        else:
            raise KeyboardInterrupt

    def on_log(record):
        records.append(record)
        if how != "raised in the model" and isinstance(record, StepRecord) and record.step == 4:
            interrupt()

    def in_forward(module, inputs):
        if trainer.step_number == 4 and module.training:
            interrupt()

    model = new_model()
    trainer = trainer_of(model=model, out_dir=tmp_path, on_log=on_log)
    if how == "raised in the model":
        model.register_forward_pre_hook(in_forward)
    handler = signal.getsignal(signal.SIGINT)
    history = trainer.train()
    assert signal.getsignal(signal.SIGINT) is handler
    assert [row["step"] for row in history.rows] == [1, 2, 3, 4]
    assert records[-1].message == f"interrupted: saved to {tmp_path / 'checkpoint.pt'}"
    assert all(p.grad is None for p in model.parameters())
    resumed = new_model(seed=100)
    train(resumed, TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path, resume=True, on_log=quiet)
    assert_same(read_checkpoint(tmp_path / "checkpoint.pt"), uninterrupted)


def test_an_interrupt_without_out_dir_says_that_nothing_is_saved(uninterrupted):
    records = []

    def on_log(record):
        records.append(record)
        if record.step == 4:
            signal.raise_signal(signal.SIGINT)
            trainer.on_log = records.append

    trainer = trainer_of(on_log=on_log)
    trainer.train()
    assert "nothing is saved" in str(records[-1])
    trainer.train()  # the trainer itself can go on
    assert_same(everything(trainer), uninterrupted)


def test_a_second_interrupt_stops_at_once_and_saves_nothing(tmp_path):
    def on_log(record):
        if isinstance(record, StepRecord) and record.step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    trainer = trainer_of(out_dir=tmp_path, on_log=on_log)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


# Inside the third save, or in the step after it. kill() ends the process as a power cut would.
KILLS = {
    "in the middle of the write": """
class Torn:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        if saves == 3: kill()
        self.file.write(content[len(content) // 2 :])
fdopen = os.fdopen
os.fdopen = lambda *a, **k: Torn(fdopen(*a, **k))
""",
    "before it is on disk": """
fsync = os.fsync
os.fsync = lambda *a: kill() if saves == 3 else fsync(*a)
""",
    "before the new file takes its place": """
replace, path_replace = os.replace, Path.replace
os.replace = lambda *a: kill() if saves == 3 else replace(*a)
Path.replace = lambda *a: kill() if saves == 3 else path_replace(*a)
""",
    "in the step after it": """
step = Trainer.step
Trainer.step = lambda self: kill() if saves == 3 else step(self)
""",
}

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import test_training as t
from course_pkg.training import Trainer

saves = 0
save = Trainer.save
def counted_save(self, path):
    global saves
    saves += 1
    save(self, path)
Trainer.save = counted_save

def kill():
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
{moment}
t.train(t.new_model(), t.TRAIN_IDS, t.VALIDATION_IDS, t.RECIPE, sys.argv[1], on_log=t.quiet)
print("not killed")
"""


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_leaves_a_checkpoint_that_goes_on(tmp_path, uninterrupted, moment):
    import_from = [str(Path(files.__file__).parents[1]), str(Path(__file__).parent)]
    script = KILLED_RUN.replace("{moment}", KILLS[moment])
    command = [sys.executable, "-c", script, str(tmp_path), *import_from]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0 and not result.stdout and not result.stderr, result.stderr
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    # The saves: before the first step, after step 3, after step 6.
    assert saved["step"] == (6 if moment == "in the step after it" else 3)
    model = new_model(seed=100)
    train(model, TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path, resume=True, on_log=quiet)
    assert_same(read_checkpoint(tmp_path / "checkpoint.pt"), uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def full_disk(monkeypatch) -> None:
    """From now on half of what is written fits."""
    open_file = os.fdopen

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fdopen", lambda *a, **k: Full(open_file(*a, **k)))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, uninterrupted):
    trainer = trainer_of(out_dir=tmp_path)
    trainer.on_log = lambda record: (
        full_disk(monkeypatch)
        if isinstance(record, EvaluationRecord) and record.step == 4
        else None
    )
    with pytest.raises(OSError, match="checkpoint cannot be saved: No space left") as caught:
        trainer.train()
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "checkpoint.pt") in str(caught.value)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    train(new_model(), TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path, resume=True, on_log=quiet)
    assert_same(read_checkpoint(tmp_path / "checkpoint.pt"), uninterrupted)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_really_full_device(monkeypatch, tmp_path):
    open_file = os.fdopen

    def fdopen(descriptor, *args, **kwargs):
        os.close(descriptor)
        return open_file(os.open("/dev/full", os.O_WRONLY), *args, **kwargs)

    monkeypatch.setattr(files.os, "fdopen", fdopen)
    with pytest.raises(OSError, match="cannot be saved: No space left"):
        trainer_of().save(tmp_path / "checkpoint.pt")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    (tmp_path / "file").write_text("mine", encoding="utf-8")
    trainer = trainer_of(out_dir=tmp_path / "file")
    with pytest.raises(OSError, match="checkpoint cannot be saved"):
        trainer.train()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    other = trainer_of(out_dir=tmp_path)
    with pytest.raises(PermissionError, match="cannot be saved: Permission denied"):
        other.train()
    assert trainer.step_number == other.step_number == 0


def test_another_runs_checkpoint_is_never_overwritten(tmp_path):
    partial_run(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint\.pt exists: resume"):
        train(new_model(), TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path, on_log=quiet)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_resume_needs_a_checkpoint(tmp_path):
    arguments = (new_model(), TRAIN_IDS, VALIDATION_IDS, RECIPE)
    with pytest.raises(ValueError, match="needs out_dir"):
        train(*arguments, resume=True)
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: there is no checkpoint"):
        train(*arguments, tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": dataclasses.replace(MODEL, d_model=16)}, "d_model 8 and not 16"),
        ({"model": dataclasses.replace(MODEL, dropout=0.1)}, "dropout 0.2 and not 0.1"),
        ({"config": dataclasses.replace(RECIPE, seed=1)}, "seed 7 and not 1"),
        (
            {"config": dataclasses.replace(RECIPE, max_steps=10, batch_size=4)},
            "batch_size 3 and not 4, max_steps 9 and not 10",
        ),
        ({"ids": TRAIN_IDS[:-1]}, "train tokens 200 and not 199"),
    ],
)
def test_another_runs_checkpoint_is_not_loaded(tmp_path, changes, says):
    partial_run(tmp_path)
    trainer = Trainer(
        new_model(changes.get("model", MODEL), seed=3),
        changes.get("ids", TRAIN_IDS),
        VALIDATION_IDS,
        changes.get("config", RECIPE),
    )
    before = everything(trainer)
    with pytest.raises(ValueError, match="another run") as caught:
        trainer.load(tmp_path / "checkpoint.pt")
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert_same(everything(trainer), before)


def test_a_checkpoint_from_before_the_options_goes_on(tmp_path, uninterrupted):
    partial_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["precision"]
    for name in ("precision", "compile", "loss_rows", "fused", "parallel", "optimizer"):
        del content["training_config"][name]
    del content["model_config"]["exact_gelu"]
    torch.save(content, path)
    assert read_checkpoint(path)["precision"] == "float32"
    train(new_model(), TRAIN_IDS, VALIDATION_IDS, RECIPE, tmp_path, resume=True, on_log=quiet)
    assert_same(read_checkpoint(path), uninterrupted)


def test_weights_of_another_shape_are_named(tmp_path):
    partial_run(tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = read_checkpoint(path)
    content["model"]["final_norm.scale"] = torch.ones(9)
    del content["model"]["final_norm.shift"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"scale \(9,\) and not \(8,\).*shift None and not \(8,\)"):
        trainer_of().load(path)


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    trainer_of().save(path)
    return path.read_bytes()


def test_a_truncated_checkpoint_is_refused(tmp_path, checkpoint_bytes):
    path = tmp_path / "checkpoint.pt"
    lengths = random.Random(0).sample(range(len(checkpoint_bytes)), 40)
    for length in (0, 1, len(checkpoint_bytes) - 1, *lengths):
        path.write_bytes(checkpoint_bytes[:length])
        with pytest.raises(ValueError, match="truncated or damaged") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_refused_or_unharmed(tmp_path, checkpoint_bytes):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(checkpoint_bytes)
    expected = read_checkpoint(path)
    refused = 0
    dice = random.Random(0)
    positions = dice.sample(range(len(checkpoint_bytes)), 150)
    # The archive's directory stands at the end.
    positions += range(len(checkpoint_bytes) - 150, len(checkpoint_bytes))
    for position in positions:
        damaged = bytearray(checkpoint_bytes)
        damaged[position] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            assert_same(read_checkpoint(path), expected)  # it hit padding
        except ValueError as error:
            assert re.search("truncated or damaged", str(error))
            refused += 1
    assert refused > len(positions) / 2


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in ({"a": torch.zeros(3)}, [1], torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(ValueError, match="not a checkpoint"):
            read_checkpoint(path)
    torch.save(History(), path)  # code, not data: never unpickled
    with pytest.raises(ValueError, match="not a checkpoint"):
        read_checkpoint(path)
    torch.save({"format": 2}, path)
    with pytest.raises(ValueError, match="of format 2; this version reads 1"):
        read_checkpoint(path)


# Numbers that are none


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_a_run_that_diverges_stops_with_the_step_and_keeps_its_checkpoint(tmp_path, what):
    model = new_model()

    def poison(record):
        if isinstance(record, StepRecord) and record.step == 4:
            if what == "loss":
                with torch.no_grad():
                    model.final_norm.shift[0] = math.nan
            else:
                model.final_norm.shift.register_hook(lambda gradient: gradient * math.inf)

    trainer = trainer_of(model=model, out_dir=tmp_path, on_log=poison)
    with pytest.raises(FloatingPointError, match=rf"{what} is \w+ at step 5") as caught:
        trainer.train()
    assert str(tmp_path / "checkpoint.pt") in str(caught.value)
    assert trainer.step_number == 4
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    assert saved["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())


def test_a_split_that_is_too_short_is_named():
    for splits, name in (
        ((TRAIN_IDS[:6], VALIDATION_IDS), "train"),
        ((TRAIN_IDS, VALIDATION_IDS[:6]), "validation"),
    ):
        with pytest.raises(ValueError, match=rf"^the {name} split: ids has 6 tokens"):
            Trainer(new_model(), *splits, RECIPE)


# Options of the step


@given(st.integers(0, 999), st.integers(1, 14), st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=40)
def test_the_loss_in_chunks_is_the_loss(seed, rows, ignored):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(7, (3, 4), generator=generator)
    targets[torch.tensor(ignored).view(3, 4)] = IGNORE_INDEX
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        hidden = torch.randn(3, 4, 5, generator=generator, dtype=dtype, requires_grad=True)
        weight = torch.randn(7, 5, generator=generator, dtype=dtype, requires_grad=True)
        results = []
        for loss in (
            cross_entropy(hidden @ weight.T, targets, "sum"),
            chunked_cross_entropy(hidden, weight, targets, rows, IGNORE_INDEX),
        ):
            results.append((loss, *torch.autograd.grad(loss / 3, (hidden, weight))))
        for plain, chunked in zip(*results, strict=True):
            torch.testing.assert_close(chunked, plain, rtol=tolerance, atol=tolerance)


def test_the_loss_in_chunks_where_a_gradient_is_not_wanted():
    hidden, weight = torch.randn(4, 5), torch.randn(7, 5, requires_grad=True)
    targets = torch.tensor([1, 2, 3, 4])
    loss = chunked_cross_entropy(hidden, weight, targets, 3, IGNORE_INDEX)
    (expected,) = torch.autograd.grad(cross_entropy(hidden @ weight.T, targets, "sum"), weight)
    (gradient,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(gradient, expected)
    with torch.no_grad():
        assert not chunked_cross_entropy(hidden, weight, targets, 3, IGNORE_INDEX).requires_grad
    with pytest.raises(ValueError, match="rows=0"):
        chunked_cross_entropy(hidden, weight, targets, 0, IGNORE_INDEX)


def test_the_loss_in_chunks_never_holds_more_rows_of_logits_than_it_may():
    hidden, weight = torch.randn(40, 5, requires_grad=True), torch.randn(101, 5, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == 101:
                largest = max(largest, len(result))
            return result

    with Watch():
        loss = chunked_cross_entropy(hidden, weight, torch.zeros(40).long(), 8, IGNORE_INDEX)
        loss.backward()
    assert largest == 8


def test_the_loss_in_chunks_has_no_second_backward_pass():
    weight = torch.randn(7, 5, requires_grad=True)
    loss = chunked_cross_entropy(torch.randn(2, 5), weight, torch.tensor([1, 2]), 1, IGNORE_INDEX)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("loss_rows", [1, 5, 1000])
def test_a_run_with_the_loss_in_chunks_is_the_run(tie_weights, loss_rows):
    shape = dataclasses.replace(MODEL, tie_weights=tie_weights)
    models = [new_model(shape, dtype=torch.float64) for _ in range(2)]
    histories = [
        trainer_of(dataclasses.replace(RECIPE, loss_rows=rows), model).train()
        for rows, model in zip((None, loss_rows), models, strict=True)
    ]
    for kind in ("rows", "evaluations"):
        for row, expected in zip(*(getattr(h, kind) for h in histories), strict=True):
            assert row == pytest.approx(expected, rel=1e-9)
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss_rows", [None, 5])
def test_bfloat16_is_for_the_steps_and_not_for_what_is_kept(loss_rows):
    config = dataclasses.replace(RECIPE, precision="bfloat16", loss_rows=loss_rows)
    shape = dataclasses.replace(MODEL, dropout=0.0)
    model, reference = new_model(shape), new_model(shape)
    dtypes = set()
    model.blocks[0].attention.out_proj.register_forward_hook(
        lambda module, inputs, output: dtypes.add((module.training, output.dtype))
    )
    trainer = trainer_of(config, model)
    history, expected = trainer.train(), trainer_of(model=reference).train()
    assert dtypes == {(True, torch.bfloat16), (False, torch.float32)}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert history != expected
    for row, other in zip(history.rows, expected.rows, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-2)
    plain = trainer_of(model=copy.deepcopy(model))  # evaluation is that of the weights as kept
    assert trainer.evaluate() == pytest.approx(plain.evaluate(), rel=1e-6)


def test_the_fused_update_is_the_update(tmp_path):
    partial_run(tmp_path)  # whichever kernel began a run, either goes on with it
    for fused in (True, False):
        model, reference = new_model(), new_model()
        config = dataclasses.replace(RECIPE, fused=fused)
        trainer = trainer_of(config, model)
        trainer.load(tmp_path / "checkpoint.pt")
        assert bool(trainer.optimizer.param_groups[0]["fused"]) is fused
        trainer.train()
        trainer_of(model=reference).train()
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-4)


@pytest.mark.parametrize("faster", [True, False])
def test_auto_decides_once_and_the_run_stays_with_it(tmp_path, monkeypatch, faster):
    monkeypatch.setattr("course_pkg.training.bfloat16_is_faster", lambda work, device: faster)
    config = dataclasses.replace(RECIPE, precision="auto")
    found = "bfloat16" if faster else "float32"
    named = trainer_of(dataclasses.replace(RECIPE, precision=found))
    named.train()
    records = []

    def interrupt(record):
        records.append(record)
        if isinstance(record, StepRecord) and record.step == 4:
            raise KeyboardInterrupt

    Trainer(new_model(), TRAIN_IDS, VALIDATION_IDS, config, tmp_path, interrupt).train()
    decided = [str(r) for r in records if isinstance(r, MessageRecord) and "precision" in str(r)]
    assert len(decided) == 1 and found in decided[0]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["precision"] == found

    # Another measurement would decide otherwise, but it is not asked.
    monkeypatch.setattr("course_pkg.training.bfloat16_is_faster", lambda work, device: not faster)
    records.clear()
    model = new_model(seed=100)
    train(model, TRAIN_IDS, VALIDATION_IDS, config, tmp_path, True, records.append)
    assert not any("precision" in str(record) for record in records)
    assert_same(dict(model.state_dict()), dict(named.model.state_dict()))


def test_a_resumed_run_may_ask_for_another_precision(tmp_path):
    partial_run(tmp_path)
    config = dataclasses.replace(RECIPE, precision="bfloat16")
    train(new_model(), TRAIN_IDS, VALIDATION_IDS, config, tmp_path, resume=True, on_log=quiet)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["precision"] == "bfloat16"


@pytest.mark.parametrize(("cost", "faster"), [(25, False), (0.95, False), (0.5, True)])
def test_bfloat16_must_pay(cost, faster):
    now = 0.0
    calls = []

    def work():
        nonlocal now
        enabled = torch.is_autocast_enabled("cpu")
        now += (cost if enabled else 1) if enabled in calls else 100  # the first call is slow
        calls.append(enabled)

    assert bfloat16_is_faster(work, torch.device("cpu"), lambda: now) is faster
    assert calls.count(True) == calls.count(False)
    assert not bfloat16_is_faster(lambda: 1 / 0, torch.device("mps"))


def test_the_probe_measures_a_step_like_the_runs(monkeypatch):
    def probe(work, device):
        work()
        return True

    monkeypatch.setattr("course_pkg.training.bfloat16_is_faster", probe)
    model = new_model()
    torch.manual_seed(3)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert trainer_of(model=model)._bfloat16_is_faster()
    assert_same(dict(before), dict(model.state_dict()))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_device_that_is_here_is_chosen(monkeypatch):
    here = {"cuda": True, "mps": True}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: here["mps"])
    assert choose_device() == torch.device("cuda")
    here["cuda"] = False
    assert choose_device() == choose_device("mps") == torch.device("mps")
    here["mps"] = False
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda': there is no such device here"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="device='gpu' is unknown"):
        choose_device("gpu")


@pytest.mark.parametrize("error", [RuntimeError("no compiler\nmore"), OSError()])
def test_a_run_goes_on_where_the_compiler_fails(monkeypatch, uninterrupted, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch, "compile", lambda module: fail)
    records = []
    trainer = trainer_of(dataclasses.replace(RECIPE, compile=True), on_log=records.append)
    trainer.train()
    reason = "no compiler" if str(error) else "OSError"
    assert [r.message for r in records if isinstance(r, MessageRecord)] == [
        f"without torch.compile, which failed: {reason}"
    ]
    assert_same(everything(trainer)["model"], uninterrupted["model"])


# In a process of its own: annotations that tests check at run time keep dynamo from compiling.
COMPILED = """
import dataclasses
import sys

import torch

sys.path.insert(0, sys.argv[1])
from test_training import RECIPE, everything, new_model, trainer_of

graphs, real = [], torch.compile


def backend(graph, inputs):  # compiles nothing, but takes the same way through dynamo
    graphs.append(graph)
    return graph.forward


torch.compile = lambda module, **options: real(module, backend=backend, **options)
for batch_size in (2, 3):
    recipe = dataclasses.replace(RECIPE, batch_size=batch_size, max_steps=4, loss_rows=5)
    compiled = trainer_of(dataclasses.replace(recipe, compile=True), new_model())
    plain = trainer_of(recipe, new_model())
    for row, other in zip(compiled.train().rows, plain.train().rows, strict=True):
        assert all(abs(row[name] - other[name]) < 1e-4 * abs(other[name]) for name in other)
    assert everything(compiled)["model"].keys() == plain.model.state_dict().keys()
assert graphs
"""


def test_a_compiled_step_is_the_step():
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", COMPILED, tests]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_message_of_a_step_that_is_not_finite_names_the_windows(tmp_path):
    ids = TRAIN_IDS.clone()
    ids[150] = 12  # the only token whose embedding is not a number
    ids[ids == 12] = 11
    ids[150] = 12
    model = new_model(dataclasses.replace(MODEL, dropout=0.0, tie_weights=False))
    with torch.no_grad():
        model.token_embedding.weight[12] = math.nan
    config = dataclasses.replace(RECIPE, max_steps=200, eval_every=200, warmup_steps=3)
    trainer = Trainer(model, ids, ids[:50], config, tmp_path, quiet)
    with pytest.raises(FloatingPointError) as caught:
        trainer.train()
    found = re.search(
        r"the loss is nan at step (\d+), in micro-batch (\d) of 2, with windows that start at the "
        r"training tokens (\d+), (\d+), (\d+):.* The last checkpoint is (.*), of step (\d+)\.$",
        str(caught.value),
    )
    step, number, *starts = map(int, found.groups()[:5])
    assert step == trainer.step_number + 1
    assert found[6] == str(tmp_path / "checkpoint.pt") and int(found[7]) == (step - 1) // 3 * 3
    generator = torch.Generator().manual_seed(config.seed)
    batches = random_batches(torch.arange(200), 3, 6, generator)
    drawn = [inputs[:, 0].tolist() for inputs, _ in itertools.islice(batches, 2 * step)]
    assert starts == drawn[2 * (step - 1) + number - 1]
    assert any(start <= 150 < start + 6 for start in starts)
    for before in drawn[: 2 * (step - 1) + number - 1]:
        assert not any(start <= 150 < start + 6 for start in before)
