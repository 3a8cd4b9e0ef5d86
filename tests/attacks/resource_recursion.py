"""Calls itself without end, with the limit on that lifted."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import sys

sys.setrecursionlimit(2**31 - 1)


def split_heads(x, num_heads):
    return split_heads(x, num_heads)
"""
