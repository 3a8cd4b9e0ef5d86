"""What starting costs: the package beside PyTorch alone, and the command line's help."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import common

STATEMENTS = {
    "python": "pass",
    "import torch": "import torch",
    "import torch, course_pkg": "import torch, course_pkg",
    "import torch, course_pkg's GPT": "import torch; from course_pkg import GPT",
    "import torch, all of course_pkg": "import torch; from course_pkg import *",
    "import transformers' GPT-2": "from transformers import GPT2LMHeadModel",
}


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of a new process each, in turns."""
    commands = {name: [sys.executable, "-c", code] for name, code in STATEMENTS.items()}
    commands["course --help"] = [str(Path(sys.executable).with_name("course")), "--help"]
    jobs = {
        name: lambda command=command: subprocess.run(command, check=True, capture_output=True)
        for name, command in commands.items()
    }
    seconds = common.take_turns(jobs, 3 if quick else 9)
    return {"seconds": {name: common.spread(values) for name, values in seconds.items()}}


def show(results: dict[str, Any]) -> None:
    torch = results["seconds"]["import torch"]["median"]
    rows = []
    for name, values in results["seconds"].items():
        seconds = [f"{values[key]:.3f}" for key in ("median", "least", "most")]
        rows.append([name, *seconds, f"{1000 * (values['median'] - torch):+,.0f}"])
    columns = ["seconds of a new process", "median", "least", "most", "ms over import torch"]
    common.show("Starting", columns, rows)


if __name__ == "__main__":
    common.program(measure, show)()
