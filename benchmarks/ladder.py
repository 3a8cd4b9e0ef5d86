"""What each step from the chapters' explicit code to several processes buys, one on the other.

Tokens a second of whole training steps (forward, backward, clipping, AdamW) of one model on the
same data. Each rung keeps what the rungs below it changed; the last splits the same batches over
two processes, which share the threads that one process had.
"""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from course_pkg import GPT, GPTConfig, Trainer, TrainingConfig
from course_pkg.attention import MultiHeadAttention
from course_pkg.transformer import GELU, LayerNorm

MODEL = GPTConfig(
    vocab_size=2048, context_length=256, d_model=384, num_heads=6, num_layers=6, dropout=0.0
)
RECIPE = TrainingConfig(
    max_steps=10_000, batch_size=8, learning_rate=1e-3, min_lr=1e-4, warmup_steps=100
)
IDS = 100_000


class ExplicitAttention(MultiHeadAttention):
    """Chapter 3's: every weight of every pair of tokens is in memory."""

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.W_query, self.W_key, self.W_value)
        queries, keys, values = (self._split_heads(part(x)) for part in parts)
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)  # (B, H, T, T)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1)
        return self.out_proj((weights @ values).transpose(1, 2).flatten(2))


class ExplicitNorm(LayerNorm):
    """Chapter 4's, operation by operation."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


class ExplicitGELU(GELU):
    """Chapter 4's, operation by operation."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class LoopOptimizer(Trainer):
    """AdamW with a loop over the parameters in Python."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        return _with_kernel(super().make_optimizer(), foreach=False)


class FusedOptimizer(Trainer):
    """AdamW with one kernel for all parameters."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        return _with_kernel(super().make_optimizer(), fused=True)


def _with_kernel(optimizer: torch.optim.Optimizer, **kernel: bool) -> torch.optim.Optimizer:
    names = ("params", "lr", "betas", "weight_decay")
    groups = [{name: group[name] for name in names} for group in optimizer.param_groups]
    return torch.optim.AdamW(groups, **kernel)


EXPLICIT = {MultiHeadAttention: ExplicitAttention, LayerNorm: ExplicitNorm, GELU: ExplicitGELU}


def silent(_: object) -> None:
    pass


def start(
    kind: Callable[..., Trainer], explicit: dict[type, type] | None = None, **options: Any
) -> Trainer:
    torch.manual_seed(0)
    model = GPT(MODEL)
    for module in model.modules():
        module.__class__ = (explicit or {}).get(type(module), type(module))
    ids = torch.randint(MODEL.vocab_size, (IDS,))
    recipe = dataclasses.replace(RECIPE, **options)
    return kind(model, ids, ids, recipe, on_log=silent)


def steps_of(run: Trainer, count: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(count):
            run.step()

    return work


def operations_per_token() -> float:
    """Of a forward and a backward pass: 6 for each weight of a matrix, 12 L T D for attention."""
    weights = 12 * MODEL.num_layers * MODEL.d_model**2 + MODEL.vocab_size * MODEL.d_model
    return 6 * weights + 12 * MODEL.num_layers * MODEL.context_length * MODEL.d_model


def rungs() -> dict[str, Trainer]:
    pieces = {kind: EXPLICIT[kind] for kind in (LayerNorm, GELU)}
    return {
        "the chapters' explicit code": start(LoopOptimizer, EXPLICIT),
        "PyTorch's attention": start(LoopOptimizer, pieces),
        "its layer norm and GELU": start(LoopOptimizer),
        "fused AdamW": start(FusedOptimizer),
        "bfloat16": start(FusedOptimizer, precision="bfloat16"),
        "torch.compile": start(FusedOptimizer, precision="bfloat16", compile=True),
    }


def two_processes(count: int, rounds: int) -> list[float]:
    """Seconds of ``count`` steps in each round, as rank 0 of two sees them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(Path(__file__).resolve())]
    command += ["--rank", str(count), str(rounds)]
    threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // 2))}
    done = subprocess.run(
        command, env=os.environ | threads, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def be_a_rank(count: int, rounds: int) -> None:
    from course_pkg.distributed import ParallelTrainer, joined

    class Fused(ParallelTrainer):
        def make_optimizer(self) -> torch.optim.Optimizer:
            return _with_kernel(super().make_optimizer(), fused=True)

    with joined("cpu") as ranks:
        run = start(functools.partial(Fused, ranks), precision="bfloat16")
        work, seconds = steps_of(run, count), []
        for number in range(rounds + 1):
            before = time.perf_counter()
            work()
            if number:
                seconds.append(time.perf_counter() - before)
        print(json.dumps(seconds), flush=True)


def measure(quick: bool = False) -> dict[str, Any]:
    """Tokens a second of each rung. Without a compiler that rung is left out, and says so."""
    count, rounds = (2, 3) if quick else (4, 7)
    runs = rungs()
    messages: list[str] = []
    runs["torch.compile"].on_log = lambda record: messages.append(str(record))
    seconds = common.take_turns({name: steps_of(run, count) for name, run in runs.items()}, rounds)
    if messages:
        del seconds["torch.compile"]
    seconds["two processes, bfloat16"] = two_processes(count, rounds)
    tokens = count * RECIPE.batch_size * MODEL.context_length
    return {
        "rows": [
            {"name": name, "tokens_per_second": common.spread([tokens / s for s in values])}
            for name, values in seconds.items()
        ],
        "operations_per_token": operations_per_token(),
        "limits": common.limits(),
        "messages": messages,
    }


def show(results: dict[str, Any]) -> None:
    first = results["rows"][0]["tokens_per_second"]["median"]
    peak = results["limits"]["float32_operations"] / results["operations_per_token"]
    rows = []
    for row in results["rows"]:
        rate = row["tokens_per_second"]
        rows.append([row["name"], *(f"{rate[key]:,.0f}" for key in ("median", "least", "most"))])
        rows[-1] += [f"{rate['median'] / first:.2f}", f"{rate['median'] / peak:.0%}"]
    columns = ["tokens a second", "median", "least", "most", "over the first", "of float32's peak"]
    common.show("The ladder, 6 x 384, 8 windows of 256", columns, rows)
    for message in results["messages"]:
        print(message)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:  # one of the two processes
        be_a_rank(*map(int, sys.argv[2:]))
    else:
        common.program(measure, show)()
