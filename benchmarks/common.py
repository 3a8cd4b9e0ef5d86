"""What benchmarks share: taking turns, the machine's own limits, the table and the program."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table


def nothing() -> None:
    pass


def take_turns(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    wait: Callable[[], object] = nothing,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each job in each round.

    All jobs run once in a round, so that a machine that changes its speed changes it for all of
    them. The first ``warm_up`` rounds set things up and do not count; ``wait`` is called after
    each job, for a device that works on its own.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    console = Console(stderr=True)
    options = {"console": console, "transient": True, "disable": not console.is_terminal}
    for number in track(range(rounds + warm_up), "rounds", **options):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            wait()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
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


def matmul_peak(
    dtype: torch.dtype, device: torch.device | str = "cpu", size: int = 2048, rounds: int = 10
) -> float:
    """The most operations a second that products of square matrices reach."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else nothing
    return 2 * size**3 / min(take_turns({"product": lambda: a @ b}, rounds, wait)["product"])


def limits(rounds: int = 5) -> dict[str, float]:
    """The machine's own, in operations and bytes a second: matrix products, reading memory."""
    numbers = torch.randn(2**26)  # 256 MB, more than any cache
    return {
        "float32_operations": matmul_peak(torch.float32),
        "bfloat16_operations": matmul_peak(torch.bfloat16),
        "read_bytes": numbers.nbytes / min(take_turns({"read": numbers.sum}, rounds)["read"]),
    }


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def program(
    measure: Callable[[bool], dict[str, Any]], show: Callable[[dict[str, Any]], None]
) -> click.Command:
    """A benchmark as a command: it measures, shows, and with ``--json`` keeps the results."""

    @click.command(help=measure.__doc__)
    @click.option("--quick", is_flag=True, help="Fewer rounds and smaller sizes.")
    @click.option("--json", "path", type=click.Path(path_type=Path), help="Also write it here.")
    def main(quick: bool, path: Path | None) -> None:
        results = measure(quick)
        show(results)
        if path:
            path.write_text(json.dumps(results, indent=1))

    return main
