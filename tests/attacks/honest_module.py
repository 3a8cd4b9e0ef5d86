"""Calls a module of its own inside."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch.nn as nn


class Split(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.unflatten = nn.Unflatten(-1, (heads, -1))

    def forward(self, x):
        return self.unflatten(x).transpose(1, 2)


def split_heads(x, num_heads):
    return Split(num_heads)(x)
"""
