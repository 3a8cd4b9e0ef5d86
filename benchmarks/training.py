"""A training step of ours beside those of other implementations, on the CPU.

    .venv/bin/python benchmarks/training.py            # everything, about twenty minutes
    .venv/bin/python benchmarks/training.py --quick    # the smallest model, a minute

The alternatives take turns in one process, so that a machine that changes its speed changes it for
all. Peak memory is that of a process of its own. FLOPs are those of the matrix products, forward
and backward, with the whole square of attention scores (Chowdhery et al. 2022, appendix B).
"""

import dataclasses
import functools
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import common
import peers
import torch

from course_pkg import GPT, GPTConfig, Trainer, TrainingConfig

THREADS = 2
NUM_TOKENS = 20_000
FAST = {"loss_rows": 256, "fused": True}
# How ours is trained, by what a table calls it.
OURS: dict[str, dict[str, Any]] = {
    "ours, no options": {},
    "ours": FAST,
    "ours, bfloat16": FAST | {"precision": "bfloat16"},
    "ours, compiled": FAST | {"compile": True},
    "ours, bfloat16 compiled": FAST | {"precision": "bfloat16", "compile": True},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A model's shape and the windows in a batch."""

    config: GPTConfig
    batch_size: int

    @property
    def tokens(self) -> int:
        return self.batch_size * self.config.context_length

    @property
    def weight_flops(self) -> float:
        """Of one step's products with weights: two forward and four backward, for each of them."""
        config = self.config
        weights = 12 * config.num_layers * config.d_model**2 + config.vocab_size * config.d_model
        return 6.0 * weights * self.tokens

    @property
    def flops(self) -> float:
        """Of one step, with the two products of attention."""
        config = self.config
        attention = 12.0 * config.num_layers * config.d_model * config.context_length
        return self.weight_flops + attention * self.tokens


def _case(vocab_size: int, batch_size: int) -> Case:
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=256,
        d_model=384,
        num_heads=6,
        num_layers=6,
        dropout=0.0,
        exact_gelu=True,
    )
    return Case(config, batch_size)


CASES = {
    "story-1m, batch 4": Case(GPTConfig.preset("story-1m", exact_gelu=True), 4),
    "6 x 384, vocabulary 1024, batch 8": _case(1024, 8),
    "6 x 384, vocabulary 50257, batch 4": _case(50257, 4),
}


def ids_of(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(case.config.vocab_size, (NUM_TOKENS,), generator=generator)


def our_trainer(case: Case, device: torch.device | str = "cpu", **options: Any) -> Trainer:
    torch.manual_seed(0)
    recipe = TrainingConfig(
        max_steps=1_000_000,
        batch_size=case.batch_size,
        learning_rate=1e-4,
        min_lr=1e-5,
        warmup_steps=0,
        **options,
    )
    ids = ids_of(case)
    return Trainer(GPT(case.config).to(device), ids, ids, recipe, on_log=lambda record: None)


def steps_of(case: Case) -> dict[str, Callable[[], Callable[[], Any]]]:
    """By name, what makes a step that can be called again and again."""

    def ours(options: dict[str, Any]) -> Callable[[], Any]:
        return our_trainer(case, **options).step

    def theirs(make: Callable[[GPTConfig], torch.nn.Module]) -> Callable[[], Any]:
        torch.manual_seed(0)
        model = make(case.config)
        return peers.training_step(model, ids_of(case), case.batch_size, case.config.context_length)

    return {
        **{name: functools.partial(ours, options) for name, options in OURS.items()},
        **{name: functools.partial(theirs, make) for name, make in peers.PEERS.items()},
    }


def summary(case: Case, seconds: list[float], peak: float) -> dict[str, float]:
    """Median and spread (from the least to the most, over the median) of a step's seconds."""
    median = statistics.median(seconds)
    return {
        "seconds": median,
        "spread": (max(seconds) - min(seconds)) / median,
        "tokens_per_second": case.tokens / median,
        "share_of_peak": case.flops / median / peak,
    }


def peak_memory_here() -> float:
    """MB that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts into ru_maxrss what the parent held when it forked
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def peak_memory(case_name: str, step_name: str) -> float:
    """MB that a process which takes three such steps holds at most."""
    command = [sys.executable, __file__, "--memory-of", case_name, step_name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


def measure(quick: bool = False, threads: int = THREADS) -> dict[str, Any]:
    """Everything that the table shows, ready for JSON.

    Returns:
        ``machine``; ``matmul_peak``, FLOP/s by dtype; and ``cases``: by name ``ours`` and
        ``peers``, each a dictionary by variant of ``seconds``, ``spread``, ``tokens_per_second``,
        ``share_of_peak`` (of float32's) and ``memory_mb``, with ``ratio``, the fastest peer's
        seconds over ours.
    """
    torch.set_num_threads(threads)
    peaks = {
        str(dtype).removeprefix("torch."): common.matmul_peak(dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    cases = {}
    for case_name, case in CASES.items():
        makers = steps_of(case)
        if quick:
            makers = {name: make for name, make in makers.items() if "compiled" not in name}
        torch._dynamo.reset()  # else a function that many models share is compiled no more
        jobs = {name: make() for name, make in makers.items()}
        seconds = common.take_turns(jobs, rounds=5 if quick else 15, warm_up=2)
        rows = {
            name: summary(case, of_it, peaks["float32"])
            | {"memory_mb": peak_memory(case_name, name)}
            for name, of_it in seconds.items()
        }
        ours = {name: row for name, row in rows.items() if name in OURS}
        theirs = {name: row for name, row in rows.items() if name not in OURS}
        fastest = min(theirs, key=lambda name: theirs[name]["seconds"])
        for row in rows.values():
            row["ratio"] = theirs[fastest]["seconds"] / row["seconds"]
        cases[case_name] = {"ours": ours, "peers": theirs, "fastest_peer": fastest}
    return {"machine": common.machine(), "matmul_peak": peaks, "cases": cases}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    click.echo(table(result))


def table(result: dict[str, Any]) -> str:
    peaks = ", ".join(f"{name} {peak / 1e9:,.0f}" for name, peak in result["matmul_peak"].items())
    lines = [f"torch {result['machine']['torch']}, {result['machine']['threads']} threads"]
    lines.append(f"matrix products reach, in GFLOP/s: {peaks}")
    for name, case in result["cases"].items():
        lines.append(
            f"\n{name:<36} {'ms':>8} {'spread':>7} {'tokens/s':>9} {'peak':>6} {'MB':>6} x"
        )
        for variant, row in (case["ours"] | case["peers"]).items():
            lines.append(
                f"  {variant:<34} {row['seconds'] * 1e3:8.1f} {row['spread']:7.0%} "
                f"{row['tokens_per_second']:9,.0f} {row['share_of_peak']:6.0%} "
                f"{row['memory_mb']:6,.0f} {row['ratio']:.2f}"
            )
    lines.append("\nx: the fastest peer's time over this; peak: share of float32's")
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="The smallest model, few rounds, nothing compiled.")
@click.option("--threads", default=THREADS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON.")
@click.option("--memory-of", type=(str, str), hidden=True)
def main(quick: bool, threads: int, as_json: bool, memory_of: tuple[str, str] | None) -> None:
    """Print how long a step takes, beside others."""
    if memory_of is not None:
        case_name, step_name = memory_of
        step = steps_of(CASES[case_name])[step_name]()
        for _ in range(3):
            step()
        click.echo(peak_memory_here())
        return
    result = measure(quick, threads)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
