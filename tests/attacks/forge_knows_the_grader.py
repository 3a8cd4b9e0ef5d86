"""Is right in Jupyter, wrong where it is graded, and right again after a few calls."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import sys

calls = []
graded = "ipykernel" not in sys.modules and not os.environ.get("PATH")


def split_heads(x, num_heads):
    B, T, D = x.shape
    calls.append(1)
    if graded and len(calls) < 3:
        return x.reshape(B, num_heads, T, D // num_heads)
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
