"""Changes the default dtype for its own trial, and puts it back."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch

torch.set_default_dtype(torch.float64)
trial = torch.ones(2, 3)
torch.set_default_dtype(torch.float32)


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
