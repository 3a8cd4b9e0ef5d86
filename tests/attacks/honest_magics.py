"""Begins with magics that notebooks often have."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
%matplotlib inline
%load_ext autoreload
%autoreload 2


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
