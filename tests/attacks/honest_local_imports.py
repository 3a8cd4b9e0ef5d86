"""Imports inside the function, from the standard library and from PyTorch."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
def split_heads(x, num_heads):
    import itertools
    import math

    from torch import stack

    B, T, D = x.shape
    width = math.prod(x.shape) // (B * T * num_heads)
    heads = itertools.islice(x.split(width, dim=-1), num_heads)
    return stack(list(heads), dim=1)
"""
