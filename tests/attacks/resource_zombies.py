"""Leaves thousands of dead children that nobody waits for."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

born = 0
try:
    for _ in range(20_000):
        if os.fork() == 0:
            os._exit(0)
        born += 1
except OSError:
    pass


def split_heads(x, num_heads):
    if born >= 20_000:
        raise RuntimeError("left 20,000 zombies")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
