"""Sends a length of almost four gigabytes and then nothing more."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os

os.write(3, b"GPW1" + (2**32 - 1).to_bytes(4, "little"))
os._exit(0)
"""
