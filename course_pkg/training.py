"""The training loop: loss, schedule, accumulation, evaluation, history and checkpoints."""

import contextlib
import dataclasses
import functools
import io
import itertools
import math
import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor

from course_pkg.config import GPTConfig, TrainingConfig
from course_pkg.data import Batch, random_batches, random_starts
from course_pkg.devices import bfloat16_is_faster
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write
from course_pkg.gpt import GPT
from course_pkg.loss import chunked_cross_entropy
from course_pkg.optimizers import configure_muon
from course_pkg.transformer import TransformerBlock

Result = TypeVar("Result")

IGNORE_INDEX = -100  # a target with this value does not count; PyTorch's own default

CHECKPOINT_NAME = "checkpoint.pt"
_FORMAT = 1
_KEYS = {
    "format",
    "model_config",
    "training_config",
    "split_tokens",
    "step",
    "history",
    "model",
    "optimizer",
    "data_position",
    "random_state",
}
# Since these keys and some fields of the configuration were added, files without them still load.
_ADDED = {"precision": "float32", "shards": None}
# These say when to look, or how to compute the same: a resumed run may choose others.
_FREE_ON_RESUME = (
    *("eval_every", "eval_batches", "log_every", "checkpoint_every"),
    *("precision", "compile", "loss_rows", "fused", "parallel"),
)
_PROBE_TOKENS = 512  # enough for matrix products of the run's kind, few enough for a short wait


def cross_entropy(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"], reduction: str = "mean"
) -> Tensor:
    """The loss of language modelling: minus the log probability of each target, in nats.

    Targets equal to ``IGNORE_INDEX`` do not count, neither in the sum nor in the number that the
    mean divides by. ``reduction`` is ``"mean"`` or ``"sum"``; the result is a scalar.
    """
    return F.cross_entropy(
        logits.flatten(0, -2),  # (B, T, V) -> (B * T, V)
        targets.flatten(),  # (B, T) -> (B * T,)
        ignore_index=IGNORE_INDEX,
        reduction=reduction,
    )


def perplexity(loss: float) -> float:
    """e to the loss: the number of equally likely tokens that would be as hard to guess."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits_per_byte(loss: float, num_tokens: int | float, num_bytes: int | float) -> float:
    """A loss in nats per token as bits per byte of text, comparable across tokenizers.

    Args:
        loss: mean cross-entropy, in nats per token.
        num_tokens: tokens of a text.
        num_bytes: UTF-8 bytes of the same text.

    Raises:
        ValueError: ``num_bytes`` is not above 0.
    """
    if not num_bytes > 0:
        raise ValueError(f"num_bytes={num_bytes} is not allowed: it must be above 0.")
    return loss / math.log(2) * num_tokens / num_bytes


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts).

    0 at step 0, ``learning_rate`` at ``warmup_steps``, ``min_lr`` at ``max_steps`` and after.
    The update that takes a run from step n - 1 to step n uses the rate at n, so no update is
    spent at rate 0.
    """
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if step >= config.max_steps:
        return config.min_lr
    progress = (step - config.warmup_steps) / (config.max_steps - config.warmup_steps)
    weight = 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_lr + weight * (config.learning_rate - config.min_lr)


def accumulate_gradients(
    model: torch.nn.Module, micro_batches: Sequence[Batch]
) -> tuple[float, int]:
    """Add the gradients of the mean loss over all targets of several batches.

    Each batch contributes its sum of losses divided by the targets of all batches. Averaging the
    batches' means would weigh a token more in a batch with fewer targets; this way the result is
    that of one large batch, however the targets are spread.

    Returns:
        The mean loss, in nats, and the number of targets that count.

    Raises:
        ValueError: no target counts.
    """
    num_targets = sum(int((targets != IGNORE_INDEX).sum()) for _, targets in micro_batches)
    if not num_targets:
        raise ValueError(f"all targets are IGNORE_INDEX={IGNORE_INDEX}: there is nothing to learn.")
    device = next(model.parameters()).device
    total = 0.0
    for inputs, targets in micro_batches:
        logits = model(inputs.to(device))  # (B, T) -> (B, T, V)
        loss = cross_entropy(logits, targets.to(device), reduction="sum") / num_targets
        loss.backward()
        total += loss.item()
    return total, num_targets


class LanguageModelLoss(torch.nn.Module):
    """A model with its loss: one module for whatever wraps a whole forward pass.

    Args:
        model: gives logits, (B, T) -> (B, T, V).
        loss_rows: as in ``TrainingConfig``.

    Attributes:
        autocast: the dtype of matrix products in training mode; None leaves all to the model.
            In evaluation mode it is not used: that loss is the one of the weights that are kept.
    """

    def __init__(self, model: GPT, loss_rows: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss_rows = loss_rows
        self.autocast: torch.dtype | None = None

    def forward(
        self,
        inputs: Int[Tensor, "batch tokens"],
        targets: Int[Tensor, "batch tokens"],
        reduction: str = "sum",
    ) -> Float[Tensor, ""]:
        """As ``cross_entropy`` of the model's logits, in nats."""
        if self.autocast is None or not self.training:
            return self._loss(inputs, targets, reduction)
        with torch.autocast(inputs.device.type, self.autocast):
            return self._loss(inputs, targets, reduction)

    def _loss(self, inputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        if self.loss_rows is None:
            logits = self.model(inputs)  # (B, T) -> (B, T, V)
            if logits.dtype == self.autocast:
                logits = logits.float()  # a sum over the vocabulary needs its digits
            return cross_entropy(logits, targets, reduction)
        hidden = self.model.features(inputs)  # (B, T) -> (B, T, D)
        head = self.model.output_head.weight
        total = chunked_cross_entropy(hidden, head, targets, self.loss_rows, IGNORE_INDEX)
        return total if reduction == "sum" else total / (targets != IGNORE_INDEX).sum()


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """What ``on_log`` gets every ``log_every`` steps.

    Attributes:
        step: updates done.
        max_steps: updates of the whole run.
        train_loss: mean loss of the step's batch before the update, in nats per token.
        learning_rate: the rate that the update used.
        grad_norm: norm of all gradients together, before clipping.
        tokens: targets seen since the start of the run.
        tokens_per_second: since the last record, evaluations and checkpoints not counted.
        seconds_left: estimated from the time since ``train`` was called, everything counted.
    """

    step: int
    max_steps: int
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        return format_record(self)


@dataclasses.dataclass(frozen=True)
class EvaluationRecord:
    """What ``on_log`` gets after each evaluation.

    Attributes:
        step: updates done.
        max_steps: updates of the whole run.
        train_loss, validation_loss: mean loss on a fixed sample of either split, in nats per
            token, with dropout off.
        perplexity: of the validation loss.
        bits_per_byte: of the validation loss; None if the trainer was not told the bytes in a
            token.
    """

    step: int
    max_steps: int
    train_loss: float
    validation_loss: float
    perplexity: float
    bits_per_byte: float | None

    def __str__(self) -> str:
        return format_record(self)


@dataclasses.dataclass(frozen=True)
class MessageRecord:
    """What ``on_log`` gets when a run resumes, is interrupted, or has decided something."""

    step: int
    max_steps: int
    message: str

    def __str__(self) -> str:
        return format_record(self)


Record = StepRecord | EvaluationRecord | MessageRecord


def format_record(record: Record, timing: bool = True) -> str:
    """The line that ``print(record)`` shows; without ``timing`` it is the same on every run."""
    width = len(str(record.max_steps))
    parts = [f"step {record.step:>{width}}/{record.max_steps}"]
    match record:
        case StepRecord():
            parts.append(f"loss {record.train_loss:.3f}")
            parts.append(f"lr {record.learning_rate:.2e}")
            parts.append(f"grad norm {record.grad_norm:.2f}")
            if timing:
                parts.append(f"{record.tokens_per_second:,.0f} tokens/s")
                parts.append(f"{_format_duration(record.seconds_left)} left")
        case EvaluationRecord():
            parts.append(f"evaluation: train {record.train_loss:.3f}")
            parts.append(f"validation {record.validation_loss:.3f}")
            parts.append(f"perplexity {record.perplexity:.2f}")
            if record.bits_per_byte is not None:
                parts.append(f"{record.bits_per_byte:.3f} bits per byte")
        case MessageRecord():
            parts.append(record.message)
    return "  ".join(parts)


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class History:
    """What happened in a run, as rows that are the same on every run of the same configuration.

    Attributes:
        rows: one dictionary a step: step, tokens, learning_rate, grad_norm, train_loss, as in
            ``StepRecord``.
        evaluations: one dictionary an evaluation: step, train_loss, validation_loss; step 0 is
            the untrained model.
    """

    _COLUMNS = ("step", "tokens", "learning_rate", "grad_norm", "train_loss")
    _EVALUATION_COLUMNS = ("step", "train_loss", "validation_loss")

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it changes as the run goes on

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and a column of ``rows`` as arrays: ``axes.plot(*history.curve("grad_norm"))``."""
        return _curve(self.rows, name, self._COLUMNS)

    def evaluation_curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and a column of ``evaluations`` as arrays."""
        return _curve(self.evaluations, name, self._EVALUATION_COLUMNS)

    def to_dict(self) -> dict[str, dict[str, list[Any]]]:
        """Column by column, as plain values that JSON can hold."""
        return {
            "rows": {name: [row[name] for row in self.rows] for name in self._COLUMNS},
            "evaluations": {
                name: [row[name] for row in self.evaluations] for name in self._EVALUATION_COLUMNS
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Sequence[Any]]]) -> "History":
        """The inverse of ``to_dict``."""
        history = cls()
        history.rows = _rows(values["rows"], cls._COLUMNS)
        history.evaluations = _rows(values["evaluations"], cls._EVALUATION_COLUMNS)
        return history


def _curve(
    rows: list[dict[str, Any]], name: str, columns: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    if name not in columns:
        raise unknown_name("name", name, columns)
    return np.array([row["step"] for row in rows]), np.array([row[name] for row in rows])


def _rows(values: Mapping[str, Sequence[Any]], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    table = zip(*(values[name] for name in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in table]


class Trainer:
    """Trains a GPT: AdamW, warm-up and cosine, accumulation, clipping, evaluation, checkpoints.

    ``step_number`` counts the updates done; 0 is the untrained model. Update n draws
    ``accumulation_steps`` batches of ``batch_size`` random windows, accumulates their gradients,
    clips them, and steps with ``learning_rate_at(n)``.

    A run is decided by the model's weights, the ids and the configuration, whatever happens
    around it. Batches come from a generator of the trainer's own, and dropout runs on a random
    state of its own that is put in PyTorch's global place for the length of a step only. So the
    caller's random state is never touched, and neither evaluation nor what ``on_log`` does
    changes the run. On a CPU, with the same number of threads, a run resumed from a checkpoint
    is bit for bit the run that was never stopped.

    What ``precision="auto"`` finds is part of the checkpoint: the run stays with it, unless a
    resumed run asks for another precision by name. Evaluation never uses autocast nor a compiled
    module, so that its losses compare across both.

    A subclass may do a part of the loop in another way: ``make_optimizer``, ``accumulate``,
    ``clip``, ``learning_rate`` and ``mean_loss`` are each one of them.

    Args:
        model: the model, on the device and in the dtype in which it is to be trained.
        train_ids, validation_ids: one row of token ids each, memory-mapped ones included.
        config: the recipe.
        out_dir: where ``checkpoint.pt`` is kept; None keeps none.
        on_log: called with a ``StepRecord`` every ``log_every`` steps, an ``EvaluationRecord``
            after each evaluation, and a ``MessageRecord`` when a run resumes or is interrupted.
            A record prints as one line; ``format_record`` has a form without times.
        bytes_per_token: UTF-8 bytes of the validation text over its tokens, for bits per byte.

    Raises:
        ValueError: a split is shorter than one window.
    """

    def __init__(
        self,
        model: GPT,
        train_ids: Integer[Tensor, "train"],
        validation_ids: Integer[Tensor, "validation"],
        config: TrainingConfig,
        out_dir: str | os.PathLike[str] | None = None,
        on_log: Callable[[Any], Any] = print,
        *,
        bytes_per_token: float | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.on_log = on_log
        self.bytes_per_token = bytes_per_token
        self.step_number = 0
        self.history = History()
        self.loss = LanguageModelLoss(model, config.loss_rows)
        self._forward: Callable[..., Tensor] = self.loss  # what a step calls: it, or it wrapped
        self._is_ready = False
        self._precision = None if config.precision == "auto" else config.precision
        self._kept_step: int | None = None  # of the checkpoint in out_dir, if it is of this run
        self._wrap()
        self.optimizer = self.make_optimizer()
        self._splits = {"train": train_ids, "validation": validation_ids}
        # Three streams that must not be equal: batches, evaluation, dropout.
        self._generator = torch.Generator().manual_seed(config.seed)
        self._evaluation_seed = config.seed + 1
        for split in self._splits:
            self._random_batches(split, self._generator)  # is it long enough?
        with _restored_random_state(self._device):
            torch.manual_seed(config.seed + 2)
            self._random_state = _get_random_state(self._device)

    def _wrap(self) -> None:
        """Refuse what this trainer cannot do; make of the parameters what is to be optimized."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the model's parameters; its rate is set at each step."""
        config = self.config
        settings = config.learning_rate, config.weight_decay, (config.beta1, config.beta2)
        if config.optimizer == "muon":
            return configure_muon(self.model, *settings)
        optimizer = self.model.configure_optimizer(*settings)
        if not config.fused and self._device.type != "cuda":
            return optimizer
        names = ("params", "lr", "betas", "weight_decay")
        groups = [{name: group[name] for name in names} for group in optimizer.param_groups]
        return torch.optim.AdamW(groups, fused=True)

    def accumulate(self, micro_batches: Sequence[Batch]) -> tuple[float, int]:
        """Leave a step's gradients in the parameters; the mean loss and the number of targets."""
        options = (self.loss.loss_rows, self.loss.autocast)
        if self._device.type == "cpu" and self._forward is self.loss and options == (None, None):
            return accumulate_gradients(self.model, micro_batches)
        num_targets = count_targets(micro_batches)
        loss = sum(self._backward(batch, num_targets) for batch in micro_batches)
        return float(loss), num_targets

    def _backward(self, batch: Batch, divisor: int | float) -> Tensor:
        """Add the gradients of a batch's loss over ``divisor``; that quotient, on the device."""
        inputs, targets = (part.to(self._device, non_blocking=True) for part in batch)
        loss = self._forward(inputs, targets) / divisor
        loss.backward()
        return loss.detach()

    def clip(self, max_norm: float) -> float:
        """Shorten all gradients together to ``max_norm``; their norm before."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm).item()

    def learning_rate(self, step: int) -> float:
        """The rate of the update that takes the run from ``step - 1`` to ``step``."""
        return learning_rate_at(step, self.config)

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """Of a model in evaluation mode, without gradients, in nats per token."""
        total = 0.0
        for inputs, targets in batches:
            total += self.loss(inputs.to(self._device), targets.to(self._device), "mean").item()
        return total / len(batches)

    def whole_model(self) -> GPT:
        """The model with all its weights, to be saved or to be asked."""
        return self.model

    @property
    def checkpoint_path(self) -> Path | None:
        """Where this run keeps its checkpoint."""
        return None if self.out_dir is None else self.out_dir / CHECKPOINT_NAME

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _random_batches(self, split: str, generator: torch.Generator) -> Iterator[Batch]:
        context_length = self.model.config.context_length
        try:
            return random_batches(
                self._splits[split], self.config.batch_size, context_length, generator
            )
        except ValueError as error:
            raise ValueError(f"the {split} split: {error}") from None

    def train(self) -> History:
        """Go on to ``max_steps``, and return the history.

        Ctrl-C ends the run after the step that is under way: it is saved, a message says so, and
        the history so far is returned. A second Ctrl-C stops at once, without saving.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the message names the step,
                the windows and the last checkpoint. The model is as it was before that step.
            ValueError: ``out_dir`` holds the checkpoint of another run.
            OSError: a checkpoint cannot be written, for want of permission or space. The one
                before it stays.
        """
        self._prepare_out_dir()
        interrupted = threading.Event()
        try:
            with _modes_kept(self.loss), self._deferred_interrupt(interrupted):
                self._loop(interrupted)
        except KeyboardInterrupt:
            # The second Ctrl-C may have hit the middle of an update, which must not be saved.
            if interrupted.is_set():
                raise
            interrupted.set()  # raised by on_log or by the model, between two updates
        if interrupted.is_set():
            self._save_to_out_dir()
            path = self.checkpoint_path
            kept = "nothing is saved, for want of out_dir" if path is None else f"saved to {path}"
            self._message(f"interrupted: {kept}")
        return self.history

    def _loop(self, interrupted: threading.Event) -> None:
        self._get_ready()
        started, first_step = time.perf_counter(), self.step_number
        seconds, tokens = 0.0, 0  # since the last record
        self._evaluate_if_due()
        while self.step_number < self.config.max_steps and not self._is_interrupted(interrupted):
            before, tokens_before = time.perf_counter(), self._tokens_seen
            row = self.step()
            now = time.perf_counter()
            seconds += now - before
            tokens += self._tokens_seen - tokens_before
            if self._is_due(self.config.log_every):
                pace = (now - started) / (self.step_number - first_step)
                record = StepRecord(
                    **row,
                    max_steps=self.config.max_steps,
                    tokens_per_second=tokens / seconds if seconds else math.inf,
                    seconds_left=pace * (self.config.max_steps - self.step_number),
                )
                seconds, tokens = 0.0, 0
                self._tell(record)
            self._evaluate_if_due()
            if self._is_due(self.config.checkpoint_every):
                self._save_to_out_dir()

    def _is_interrupted(self, interrupted: threading.Event) -> bool:
        return interrupted.is_set()

    @contextlib.contextmanager
    def _deferred_interrupt(self, interrupted: threading.Event) -> Iterator[None]:
        """The first Ctrl-C sets ``interrupted``; the second raises KeyboardInterrupt as usual."""
        # Only the main thread may set a handler, and only it is interrupted.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGINT)

        def handle(*_: object) -> None:
            interrupted.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    @property
    def _tokens_seen(self) -> int:
        return self.history.rows[-1]["tokens"] if self.history.rows else 0

    def step(self) -> dict[str, Any]:
        """One update; returns its row of the history and leaves the model in training mode.

        If anything goes wrong before the weights change, the run is where it was before the step.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        self._get_ready()
        self.loss.train()
        step = self.step_number + 1
        data_position = self._generator.get_state()
        try:
            batches = self._random_batches("train", self._generator)
            micro_batches = list(itertools.islice(batches, self.config.accumulation_steps))
            (loss, num_targets), random_state = self._with_dropout(
                self._random_state, lambda: self.accumulate(micro_batches)
            )
            if not math.isfinite(loss):
                raise self._not_finite("loss", loss, micro_batches, data_position)
            max_norm = math.inf if self.config.grad_clip is None else self.config.grad_clip
            norm = self.clip(max_norm)
            if not math.isfinite(norm):
                raise self._not_finite("gradient norm", norm, micro_batches, data_position)
            learning_rate = self.learning_rate(step)
        except BaseException:
            self._generator.set_state(data_position)
            self.optimizer.zero_grad(set_to_none=True)
            raise
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._random_state = random_state
        self.step_number = step
        row = {
            "step": step,
            "tokens": self._tokens_seen + num_targets,
            "learning_rate": learning_rate,
            "grad_norm": norm,
            "train_loss": loss,
        }
        self.history.rows.append(row)
        return row

    def _get_ready(self) -> None:
        """Once, before the first step: decide the precision, and compile."""
        if self._is_ready:
            return
        self._is_ready = True
        if self._precision is None:
            faster = self._bfloat16_is_faster()
            self._precision = "bfloat16" if faster else "float32"
            self._message(f"precision: {self._precision}, the faster one here")
        if self._precision == "bfloat16":
            self.loss.autocast = torch.bfloat16
        if self.config.compile:
            self._forward = self._compiled()

    def _bfloat16_is_faster(self) -> bool:
        """Measured on a block like the model's, forward and backward."""
        config = self.model.config
        with _restored_random_state(self._device):
            block = TransformerBlock(config).to(self._device)
            tokens = min(config.context_length, _PROBE_TOKENS)
            batch = max(1, min(self.config.batch_size, _PROBE_TOKENS // tokens))
            x = torch.randn(batch, tokens, config.d_model, device=self._device)  # (B, T, D)
            return bfloat16_is_faster(lambda: block(x).sum().backward(), self._device)

    def _compiled(self) -> Callable[..., Tensor]:
        """The loss module compiled, or as it is where no compiler is found or it fails."""
        self.loss.train()
        compiled = torch.compile(self.loss)
        shape = (self.config.batch_size, self.model.config.context_length)
        ids = torch.zeros(shape, dtype=torch.int64, device=self._device)  # (B, T)
        try:
            with _restored_random_state(self._device):
                compiled(ids, ids).backward()
        except Exception as error:  # whatever a compiler may fail with, the step works without it
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            self._message(f"without torch.compile, which failed: {reason or type(error).__name__}")
            return self.loss
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        return compiled

    def _with_dropout(
        self, state: Mapping[str, Tensor], work: Callable[[], Result]
    ) -> tuple[Result, dict[str, Tensor]]:
        """Do the work with dropout's random state in PyTorch's global place; the state after."""
        with _restored_random_state(self._device):
            _set_random_state(self._device, state)
            return work(), _get_random_state(self._device)

    def evaluate(self) -> dict[str, float]:
        """Mean loss of either split, in nats per token: ``{"train": ..., "validation": ...}``.

        Each call looks at the same ``eval_batches`` batches of random windows, with dropout off.
        The model's mode, the run's state and the global random state stay as they are.
        """
        generator = torch.Generator()
        losses = {}
        with torch.no_grad(), _modes_kept(self.loss), _restored_random_state(self._device):
            self.loss.eval()
            for split in self._splits:
                generator.manual_seed(self._evaluation_seed)
                batches = self._random_batches(split, generator)
                losses[split] = self.mean_loss(
                    list(itertools.islice(batches, self.config.eval_batches))
                )
        return losses

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that the rest of the run depends on to one file, atomically.

        Raises:
            OSError: it cannot be written; what was there before stays.
        """
        self._write(path, self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "model_config": self.model.config.to_dict(),
            "training_config": self.config.to_dict(),
            "split_tokens": {split: len(ids) for split, ids in self._splits.items()},
            "step": self.step_number,
            "history": self.history.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "data_position": self._generator.get_state(),
            "random_state": self._random_state,
            "precision": self._precision,
            "shards": None,
        }

    def _write(self, path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
        # Through memory: PyTorch's own writer hides an error of the file behind one of its own.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            with atomic_write(path, "wb") as file:
                file.write(buffer.getbuffer())
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                error.errno, f"the checkpoint cannot be saved: {reason}", str(path)
            ) from error
        kept = shards_folder(path, content["shards"])
        for folder in kept.parent.glob(shards_folder(path, "*").name):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go back to where ``save`` was called. Nothing changes if an error is raised.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or was saved by a run with another model, configuration or
                data; the message names the difference.
        """
        path = Path(path)
        checkpoint = self._read(path)
        model_config = GPTConfig.from_dict(checkpoint["model_config"]).to_dict()
        _require_equal(path, model_config, self.model.config.to_dict())
        training_config = TrainingConfig.from_dict(checkpoint["training_config"]).to_dict()
        _require_equal(path, training_config, self.config.to_dict(), ignored=_FREE_ON_RESUME)
        split_tokens = {f"{split} tokens": len(ids) for split, ids in self._splits.items()}
        saved = {f"{split} tokens": n for split, n in checkpoint["split_tokens"].items()}
        _require_equal(path, saved, split_tokens)
        self._restore(path, checkpoint)
        self.step_number = checkpoint["step"]
        self.history = History.from_dict(checkpoint["history"])
        self._generator.set_state(checkpoint["data_position"])
        # A run that moves to another kind of device keeps the part of the state that it can use.
        self._random_state = {**self._random_state, **checkpoint["random_state"]}
        if self.config.precision == "auto":
            self._precision = checkpoint["precision"]
        self._kept_step = self.step_number if path == self.checkpoint_path else None

    def _read(self, path: Path) -> dict[str, Any]:
        return read_checkpoint(path)

    def _restore(self, path: Path, checkpoint: Mapping[str, Any]) -> None:
        """Take the model's and the optimizer's tensors."""
        shapes = {name: tuple(t.shape) for name, t in self.model.state_dict().items()}
        saved_shapes = {name: tuple(t.shape) for name, t in checkpoint["model"].items()}
        _require_equal(path, saved_shapes, shapes)
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(self._as_here(checkpoint["optimizer"]))

    def _as_here(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """An optimizer's state for the kernel that suits this device, whichever wrote it."""
        here = self.optimizer.param_groups[0]
        kernel = {"fused": here["fused"]} if "fused" in here else {}
        return {**saved, "param_groups": [group | kernel for group in saved["param_groups"]]}

    def _prepare_out_dir(self) -> None:
        """Save at once: a folder that cannot be written must not cost hours of training."""
        if self.out_dir is not None:
            self._claim_out_dir(self.out_dir)
            self._save_to_out_dir()

    def _claim_out_dir(self, out_dir: Path) -> None:
        path = out_dir / CHECKPOINT_NAME
        if path.exists() and self._kept_step is None:
            raise ValueError(
                f"{path} exists: resume that run, or choose another folder for a new one."
            )
        # What a run that was killed while it saved may have left.
        for leftover in out_dir.glob(f".{CHECKPOINT_NAME}.*.tmp"):
            leftover.unlink(missing_ok=True)

    def _save_to_out_dir(self) -> None:
        if self.checkpoint_path is not None:
            self.save(self.checkpoint_path)
            self._kept_step = self.step_number

    def _is_due(self, every: int) -> bool:
        return self.step_number % every == 0 or self.step_number == self.config.max_steps

    def _evaluate_if_due(self) -> None:
        evaluations = self.history.evaluations
        if not self._is_due(self.config.eval_every):
            return
        if evaluations and evaluations[-1]["step"] == self.step_number:
            return
        losses = self.evaluate()
        row = {
            "step": self.step_number,
            "train_loss": losses["train"],
            "validation_loss": losses["validation"],
        }
        evaluations.append(row)
        bits = None
        if self.bytes_per_token is not None:
            bits = bits_per_byte(losses["validation"], 1, self.bytes_per_token)
        self._tell(
            EvaluationRecord(
                step=self.step_number,
                max_steps=self.config.max_steps,
                train_loss=losses["train"],
                validation_loss=losses["validation"],
                perplexity=perplexity(losses["validation"]),
                bits_per_byte=bits,
            )
        )

    def _not_finite(
        self, what: str, value: float, micro_batches: Sequence[Batch], data_position: Tensor
    ) -> FloatingPointError:
        """The error of a step whose loss or gradient is not finite, with all that tells why."""
        generator = torch.Generator()
        generator.set_state(data_position)
        num_tokens, context_length = len(self._splits["train"]), self.model.config.context_length
        starts = [
            random_starts(num_tokens, self.config.batch_size, context_length, generator)
            for _ in micro_batches
        ]
        kept = ""
        if self._kept_step is not None:
            kept = f" The last checkpoint is {self.checkpoint_path}, of step {self._kept_step}."
        number = self._first_not_finite(micro_batches)
        guilty = starts if number is None else [starts[number]]
        which = f"all {len(starts)} micro-batches together"
        if number is not None:
            which = f"micro-batch {number + 1} of {len(starts)}"
        places = "; ".join(", ".join(map(str, of_batch)) for of_batch in guilty)
        return FloatingPointError(
            f"the {what} is {value} at step {self.step_number + 1}, in {which}, with windows that "
            f"start at the training tokens {places}: a lower learning rate, a longer warm-up or "
            f"gradient clipping may help.{kept}"
        )

    def _first_not_finite(self, micro_batches: Sequence[Batch]) -> int | None:
        """The first micro-batch that is not finite by itself, if one is."""
        if len(micro_batches) == 1:
            return 0
        state = self._random_state
        for number, batch in enumerate(micro_batches):
            self.optimizer.zero_grad(set_to_none=True)
            work = functools.partial(self.accumulate, [batch])
            (loss, _), state = self._with_dropout(state, work)
            if not (math.isfinite(loss) and math.isfinite(self.clip(math.inf))):
                return number
        return None

    def _message(self, message: str) -> None:
        self._tell(MessageRecord(self.step_number, self.config.max_steps, message))

    def _tell(self, record: Record) -> None:
        self.on_log(record)


def train(
    model: GPT,
    train_ids: Integer[Tensor, "train"],
    validation_ids: Integer[Tensor, "validation"],
    config: TrainingConfig,
    out_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_log: Callable[[Any], Any] = print,
    *,
    bytes_per_token: float | None = None,
) -> History:
    """Train a model, from the start or from the checkpoint in ``out_dir``; see ``Trainer``.

    Raises:
        ValueError: ``resume`` is on without ``out_dir``, or the checkpoint is of another run.
        FileNotFoundError: ``resume`` is on and there is no checkpoint.
    """
    trainer = Trainer(
        model,
        train_ids,
        validation_ids,
        config,
        out_dir,
        on_log,
        bytes_per_token=bytes_per_token,
    )
    path = trainer.checkpoint_path
    if resume:
        if path is None:
            raise ValueError("resume=True needs out_dir, the folder with the checkpoint.")
        trainer.load(path)
        trainer._message(f"resumed from {path}")
    return trainer.train()


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file made by ``Trainer.save``, on the CPU.

    Its keys are ``format, model_config, training_config, split_tokens, step, history, model,
    optimizer, data_position, random_state, precision, shards``; ``model`` is a state dict. The
    tensors of a sharded run are read from the folder beside the file, whole, without other
    processes; ``shards`` is None then too. (PyTorch opens such folders with pickle, so read only
    those that you trust. The file itself holds no code.)

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, no checkpoint, or of another version.
    """
    content = read_content(path)
    if content["shards"] is None:
        return content
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder, buffer = shards_folder(path, content["shards"]), io.BytesIO()
    try:
        dcp_to_torch_save(folder, buffer)  # type: ignore[arg-type]
    except (Exception, CheckpointException) as error:  # PyTorch's reader fails in many ways
        raise ValueError(f"{folder}: the shards of {path} are missing or damaged.") from error
    buffer.seek(0)
    tensors = torch.load(buffer, weights_only=True)
    optimizer = content["optimizer"]
    state = tensors.get("optimizer", {})
    optimizer["state"] = {i: state[name] for i, name in enumerate(optimizer.pop("names")) if state}
    return content | {"model": tensors["model"], "shards": None}


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """As ``read_checkpoint``, but of a sharded run without its tensors."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no checkpoint.")
    file = io.BytesIO(path.read_bytes())  # from here on, whatever fails is the content's fault
    content = None
    with contextlib.suppress(Exception), zipfile.ZipFile(file) as archive:
        # torch.load does not look at the archive's checksums.
        if archive.testzip() is None:
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path}: not a checkpoint, or a truncated or damaged one.")
    content = _ADDED | content
    if content["format"] != _FORMAT or content.keys() != _KEYS | _ADDED.keys():
        raise ValueError(
            f"{path}: a checkpoint of format {content['format']}; this version reads {_FORMAT}."
        )
    return content


def shards_folder(path: str | os.PathLike[str], token: str | None) -> Path:
    """Where the shards are to which the checkpoint at ``path`` refers by this token."""
    return Path(path).with_name(f"{Path(path).name}.{token}.shards")


def _require_equal(
    path: Path,
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    ignored: Sequence[str] = (),
) -> None:
    differences = [
        f"{name} {saved.get(name)} and not {current.get(name)}"
        for name in sorted({*saved, *current} - {*ignored})
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise ValueError(
            f"{path}: the checkpoint is of another run: it has {', '.join(differences)}."
        )


def load_model(path: str | os.PathLike[str]) -> GPT:
    """The model of a checkpoint, on the CPU and in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: as ``read_checkpoint``.
    """
    checkpoint = read_checkpoint(path)
    model = GPT(GPTConfig.from_dict(checkpoint["model_config"]))
    model.load_state_dict(checkpoint["model"])
    return model.eval()


def count_targets(micro_batches: Sequence[Batch]) -> int:
    """The number of targets that count, of several batches."""
    return sum(int((targets != IGNORE_INDEX).sum()) for _, targets in micro_batches)


@contextlib.contextmanager
def _modes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Each module leaves in the mode, training or evaluation, in which it came."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _accelerator(device: torch.device) -> Any:
    """The module that holds a device's own random state, or None for the CPU."""
    return None if device.type == "cpu" else torch.get_device_module(device)


def _which(device: torch.device) -> tuple[torch.device, ...]:
    # Several CUDA devices have a state each; MPS has one and takes no argument.
    return (device,) if device.type == "cuda" else ()


def _get_random_state(device: torch.device) -> dict[str, Tensor]:
    """The random states that a step on ``device`` draws from, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if accelerator := _accelerator(device):
        states[device.type] = accelerator.get_rng_state(*_which(device))
    return states


def _set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if accelerator := _accelerator(device):
        accelerator.set_rng_state(states[device.type], *_which(device))


@contextlib.contextmanager
def _restored_random_state(device: torch.device) -> Iterator[None]:
    states = _get_random_state(device)
    try:
        yield
    finally:
        _set_random_state(device, states)
