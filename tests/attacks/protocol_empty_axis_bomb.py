"""Returns an empty tensor whose reduction over one axis has gigabytes."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


def split_heads(x, num_heads):
    return torch.empty(40_000, 40_000, 1, 0, dtype=torch.uint8)
"""
