"""Defines helpers, constants and a type in the same cell."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
from typing import NamedTuple


class Sizes(NamedTuple):
    batch: int
    tokens: int
    width: int


AXES = (0, 2, 1, 3)


def sizes(x):
    return Sizes(*x.shape)


def split_heads(x, num_heads):
    found = sizes(x)
    parts = x.reshape(found.batch, found.tokens, num_heads, found.width // num_heads)
    return parts.permute(*AXES)
"""
