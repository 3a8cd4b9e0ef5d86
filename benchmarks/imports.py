"""What starting costs: new processes, and what the package adds once PyTorch is there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import common

STATEMENTS = {
    "python": "pass",
    "import torch": "import torch",
    "import transformers' GPT-2": "from transformers import GPT2LMHeadModel",
}
ADDED = ("import course_pkg", "from course_pkg import GPT", "from course_pkg import *")
# In the process itself: the start of PyTorch varies by more than what is to be seen.
TIMED = """
import time
import torch
before = time.perf_counter()
{}
print(time.perf_counter() - before)
"""


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of a new process each, and of the package's own imports, in turns."""
    commands = {name: [sys.executable, "-c", code] for name, code in STATEMENTS.items()}
    commands["course --help"] = [str(Path(sys.executable).with_name("course")), "--help"]
    rounds = 3 if quick else 9
    jobs = {
        name: lambda command=command: subprocess.run(command, check=True, capture_output=True)
        for name, command in commands.items()
    }
    seconds = common.take_turns(jobs, rounds)
    added: dict[str, list[float]] = {name: [] for name in ADDED}
    for name in ADDED * rounds:
        command = [sys.executable, "-c", TIMED.format(name)]
        added[name].append(float(subprocess.check_output(command, text=True)))
    return {
        "seconds": {name: common.spread(values) for name, values in seconds.items()},
        "added": {name: common.spread(values) for name, values in added.items()},
    }


def show(results: dict[str, Any]) -> None:
    keys = ("median", "least", "most")
    for part, unit, title in (
        ("seconds", 1, "Starting: seconds of a new process"),
        ("added", 1000, "After import torch: milliseconds"),
    ):
        rows = [
            [name, *(f"{unit * values[key]:.{3 if unit == 1 else 1}f}" for key in keys)]
            for name, values in results[part].items()
        ]
        common.show(title, ["", *keys], rows)


if __name__ == "__main__":
    common.program(measure, show)()
