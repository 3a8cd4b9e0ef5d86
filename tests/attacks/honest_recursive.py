"""Takes off one head after the other, by calling itself."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch


def split_heads(x, num_heads):
    width = x.shape[-1] // num_heads
    first = x[:, None, :, :width]
    if num_heads == 1:
        return first
    return torch.cat([first, split_heads(x[..., width:], num_heads - 1)], dim=1)
"""
