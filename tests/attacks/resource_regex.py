"""Matches a pattern that takes 2**64 steps, inside one call that no exception interrupts."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import re


def split_heads(x, num_heads):
    return re.match(r"(a|aa|a?)+$", "a" * 64 + "b")
"""
