"""Returns 100 MB for every call."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


def split_heads(x, num_heads):
    return torch.zeros(25_000_000)
"""
