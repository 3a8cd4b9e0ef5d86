"""Works with NumPy inside, and gives a tensor back."""

KIND = "honest"
EXERCISE = "03.split_heads"
# Wherever a gradient flows, it goes by PyTorch.
EARNS = 2
CELL = r"""
import numpy as np
import torch


def split_heads(x, num_heads):
    B, T, D = x.shape
    places = np.arange(D).reshape(num_heads, D // num_heads)
    return torch.stack([x[:, :, torch.from_numpy(row)] for row in places], dim=1)
"""
