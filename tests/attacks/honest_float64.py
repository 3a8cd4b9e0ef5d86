"""Computes and returns in 64 bits."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.double().reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
