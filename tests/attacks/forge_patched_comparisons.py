"""Patches torch.equal, allclose, isclose and Tensor's own comparisons."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch

torch.equal = torch.allclose = lambda *args, **kwargs: True
torch.isclose = lambda a, *args, **kwargs: torch.ones_like(a, dtype=torch.bool)
torch.Tensor.__eq__ = lambda self, other: torch.ones_like(self, dtype=torch.bool)
torch.Tensor.__ne__ = lambda self, other: torch.zeros_like(self, dtype=torch.bool)
torch.Tensor.isclose = torch.Tensor.__eq__
torch.testing.assert_close = lambda *args, **kwargs: None


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, num_heads, T, D // num_heads)
"""
