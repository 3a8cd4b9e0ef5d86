"""Prints 200 MB through print, and then 64 MB past it."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Right: what it prints is cut, not punished.
EARNS = 2
CELL = r"""
import os

line = "x" * (1 << 20)
for _ in range(200):
    print(line)
for _ in range(64):
    os.write(1, line.encode())
    os.write(2, line.encode())


def split_heads(x, num_heads):
    B, T, D = x.shape
    print(line)
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
