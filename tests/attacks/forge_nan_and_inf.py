"""Builds a whole well-formed reply in which every number is not a number, or infinite."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

import torch


def filled(look, inputs):
    x, heads = inputs
    shape = x.shape[0], heads, x.shape[1], x.shape[2] // heads
    return torch.full(shape, float("nan" if x.shape[0] % 2 else "inf"), dtype=x.dtype)


def split_heads(x, num_heads):
    return x


send(filled)
"""
