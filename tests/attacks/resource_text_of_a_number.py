"""Writes out a number of two hundred million bits in digits."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import sys

sys.set_int_max_str_digits(0)


def split_heads(x, num_heads):
    return len(str(1 << 200_000_000))
"""
