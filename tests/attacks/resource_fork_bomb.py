"""Forks as often as it can."""

KIND = "resources"
EXERCISE = "03.split_heads"
# It raises if it got more processes than anybody may have; a real bomb would say no more.
EARNS = 2
CELL = r"""
import os
import time

born = 0
try:
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(98765)
            os._exit(0)
        born += 1
except OSError:
    pass


def split_heads(x, num_heads):
    if born >= 400:
        raise RuntimeError("400 processes")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
