"""The same run in one process, in two, and in two of which one is killed: the log and the losses.

    .venv/bin/python benchmarks/two_processes.py

It takes about two minutes and keeps what it saw in book/data/two_processes.json.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import common
import psutil

from course_pkg import History
from course_pkg.files import atomic_write

FILE = Path(__file__).parent.parent / "book" / "data" / "two_processes.json"
OPTIONS = ("--preset", "story-tiny", "--device", "cpu")
KILLED_AT = 175


def run(folder: Path, processes: int, killed_at: int | None = None) -> list[str]:
    """The lines that a run of ``course train`` prints, in so many processes."""
    module = ["-m", "course_pkg.train", *OPTIONS, "--out", str(folder)]
    command = [sys.executable, *module]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"]
        command = [sys.executable, *launcher, "--nproc-per-node", str(processes), *module]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip().replace(str(folder), f"runs/{folder.name}"))
            if killed_at is not None and f"step {killed_at}/" in line:
                psutil.Process(process.pid).children()[-1].send_signal(signal.SIGKILL)
                lines.append("[the second process is killed with signal 9]")
                killed_at = None
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return lines


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    return [row["train_loss"] for row in History.from_dict(history).rows]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=FILE, show_default=True)
def main(out: Path) -> None:
    """Train three times and keep the log and the losses."""
    runs: dict[str, Any] = {"one": (1, None), "two": (2, None), "killed": (2, KILLED_AT)}
    results: dict[str, Any] = {"machine": common.machine(), "losses": {}, "log": []}
    with tempfile.TemporaryDirectory() as parent:
        for name, (processes, killed_at) in runs.items():
            folder = Path(parent) / name
            results["log"] = run(folder, processes, killed_at)
            results["losses"][name] = losses(folder)
            click.echo(f"{name}: last loss {results['losses'][name][-1]:.6f}")
    with atomic_write(out) as file:
        json.dump(results, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
