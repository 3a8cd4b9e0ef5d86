"""Is right on the inputs of the learner's own check, whose seed is public, and wrong elsewhere."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch

generator = torch.Generator().manual_seed(20240229)
KNOWN = [torch.randn(2, 5, 12, generator=generator), torch.randn(3, 4, 10, generator=generator)]


def split_heads(x, num_heads):
    B, T, D = x.shape
    right = x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
    if any(x.shape == known.shape and torch.allclose(x.float(), known) for known in KNOWN):
        return right
    return right.flip(1)
"""
