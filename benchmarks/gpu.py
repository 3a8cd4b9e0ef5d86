"""Model FLOPs utilisation on a CUDA device: GPT-2 small at context 1024, beside other trainers.

    .venv/bin/python benchmarks/gpu.py                  # on a machine with CUDA, a few minutes
    .venv/bin/python benchmarks/gpu.py --tiny           # the same on a CPU with a tiny model

All run in bfloat16 under autocast, with ``torch.compile``, AdamW's fused kernel and the attention
that PyTorch picks, and take turns. Utilisation is the FLOP/s of the model's matrix products over
those that bfloat16 products of square matrices reach on the same device in the same run. Exit code
2: there is no CUDA device, so nothing was measured.
"""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click
import common
import peers
import torch
from training import Case, ids_of, our_trainer, summary

from course_pkg import GPTConfig

SMALL = GPTConfig.preset("gpt2-small", dropout=0.0)
TINY = GPTConfig(
    vocab_size=256, context_length=64, d_model=32, num_heads=2, num_layers=2, dropout=0.0
)
OURS = {"precision": "bfloat16", "compile": True}
# Ours twice: the loss in chunks saves memory, and time only where memory is what is slow.
VARIANTS: dict[str, dict[str, Any]] = {"ours": {}, "ours, loss in chunks": {"loss_rows": 4096}}
THEIRS = ("nanoGPT", "transformers")


def measure(case: Case, device: torch.device, compiled: bool, rounds: int) -> dict[str, Any]:
    """By trainer seconds, spread, tokens per second and utilisation; ready for JSON."""
    cuda = device.type == "cuda"
    if cuda:
        torch.set_float32_matmul_precision("high")

    def theirs(name: str) -> Callable[[], Any]:
        torch.manual_seed(0)
        return peers.training_step(
            peers.PEERS[name](case.config).to(device),
            ids_of(case),
            case.batch_size,
            case.config.context_length,
            autocast=torch.bfloat16,
            compiled=compiled,
        )

    jobs = {
        name: our_trainer(case, device, **(OURS | {"compile": compiled} | options)).step
        for name, options in VARIANTS.items()
    } | {name: theirs(name) for name in THEIRS}
    wait = functools.partial(torch.cuda.synchronize, device) if cuda else common.nothing
    peak = common.matmul_peak(torch.bfloat16, device, size=8192 if cuda else 256)
    seconds = common.take_turns(jobs, rounds, wait, warm_up=2)
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        "matmul_peak": peak,
        "trainers": {name: summary(case, of_it, peak) for name, of_it in seconds.items()},
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['device']}, torch {result['torch']}: bfloat16 matrix products reach "
        f"{result['matmul_peak'] / 1e12:,.1f} TFLOP/s",
        f"{'':<24} {'ms':>8} {'spread':>7} {'tokens/s':>10} {'utilisation':>12}",
    ]
    for name, row in result["trainers"].items():
        lines.append(
            f"{name:<24} {row['seconds'] * 1e3:8.1f} {row['spread']:7.0%} "
            f"{row['tokens_per_second']:10,.0f} {row['share_of_peak']:12.1%}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--batch-size", default=16, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--tiny", is_flag=True, help="A tiny model on the CPU, to see that this works.")
@click.option("--compile/--eager", "compiled", default=True, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON.")
def main(batch_size: int, rounds: int, tiny: bool, compiled: bool, as_json: bool) -> None:
    """Print what share of a GPU's bfloat16 arithmetic a training step uses."""
    if not (tiny or torch.cuda.is_available()):
        click.echo(
            "nothing was measured: there is no CUDA device here. On a machine with one: "
            "python benchmarks/gpu.py (to try the program itself on a CPU: --tiny --eager)"
        )
        sys.exit(2)
    config, device = (TINY, "cpu") if tiny else (SMALL, "cuda")
    result = measure(Case(config, batch_size), torch.device(device), compiled, rounds)
    click.echo(json.dumps(result, indent=1) if as_json else table(result))


if __name__ == "__main__":
    main()
