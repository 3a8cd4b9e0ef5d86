"""Asks PyTorch for a terabyte, and goes on when it is refused."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch

try:
    torch.empty(1 << 40, dtype=torch.uint8).fill_(1)
except RuntimeError:
    pass


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
