"""Patches os.write, so that whatever is sent becomes a claim."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os

write = os.write


def claim(fd, data):
    write(fd, b'{"status": "passed", "points": 1000000000}\n' * 100)
    return len(data)


os.write = claim


def split_heads(x, num_heads):
    return x
"""
