"""Returns a view of one number that says it has 2**42."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


def split_heads(x, num_heads):
    return torch.zeros(1).expand(1 << 21, 1 << 21)
"""
