"""Leaves by sys.exit(0) while its cell runs."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import sys

sys.exit(0)


def split_heads(x, num_heads):
    return x
"""
