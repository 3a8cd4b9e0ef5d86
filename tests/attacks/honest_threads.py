"""Asks PyTorch for four threads, and uses them."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch

torch.set_num_threads(4)
torch.ones(600, 600) @ torch.ones(600, 600)


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
