"""Returns the right values as views that are negated lazily, twice."""

KIND = "protocol"
EXERCISE = "03.split_heads"
# Right: a zero with a sign is zero.
EARNS = 2
CELL = r"""
import torch


def split_heads(x, num_heads):
    B, T, D = x.shape
    right = x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
    return torch._neg_view(-right)
"""
