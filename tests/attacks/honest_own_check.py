"""Tries its function at once, with asserts and the course's check in the same cell."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


assert split_heads(torch.zeros(2, 5, 12), 4).shape == (2, 4, 5, 3)
check("03.split_heads", split_heads)
split_heads(torch.arange(24.0).view(1, 2, 12), 4)
"""
