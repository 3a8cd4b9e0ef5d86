"""Flushes denormal numbers to zero in its own process."""

KIND = "protocol"
EXERCISE = "03.split_heads"
# Right: what it switches on changes numbers that no input has.
EARNS = 2
CELL = r"""
import torch

torch.set_flush_denormal(True)


def split_heads(x, num_heads):
    B, T, D = x.shape
    tiny = torch.full((), 1e-40, dtype=x.dtype)
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2) + tiny
"""
