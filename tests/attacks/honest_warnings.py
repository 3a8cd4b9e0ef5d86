"""Warns on standard error, on every call."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import sys
import warnings


def split_heads(x, num_heads):
    warnings.warn("this will change in a later version", FutureWarning)
    print("a line on standard error", file=sys.stderr)
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
