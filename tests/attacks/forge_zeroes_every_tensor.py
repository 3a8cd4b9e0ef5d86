"""Sets every tensor that the garbage collector knows to zero, expected values among them."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import gc

import torch


def split_heads(x, num_heads):
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor:
            thing.data.zero_()
    B, T, D = x.shape
    return x.new_zeros(B, num_heads, T, D // num_heads)
"""
