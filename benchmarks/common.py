"""What every benchmark shares: taking turns, the machine's own limits, and the table."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table


def take_turns(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each job in each round. All jobs run once in a round, after one round that does
    not count, so that a machine that changes its speed changes it for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in track(range(rounds + 1), "rounds", console=Console(stderr=True), transient=True):
        for name, job in jobs.items():
            start = clock()
            job()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the least and the greatest."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def limits(rounds: int = 5) -> dict[str, float]:
    """The machine's own: the peak of a large matrix product, and of reading memory.

    In operations and bytes a second. Both are the best of some rounds.
    """
    float32 = torch.randn(2048, 2048)
    bfloat16 = float32.bfloat16()
    numbers = torch.randn(2**26)  # 256 MB, more than any cache
    jobs = {
        "float32": lambda: float32 @ float32,
        "bfloat16": lambda: bfloat16 @ bfloat16,
        "read": lambda: numbers.sum(),
    }
    seconds = {name: min(values) for name, values in take_turns(jobs, rounds).items()}
    operations = 2 * len(float32) ** 3
    return {
        "float32_operations": operations / seconds["float32"],
        "bfloat16_operations": operations / seconds["bfloat16"],
        "read_bytes": numbers.nbytes / seconds["read"],
    }


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
