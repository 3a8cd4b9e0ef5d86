"""Closes every descriptor, the reply's pipe among them, before it answers."""

KIND = "protocol"
EXERCISE = "03.split_heads"
# It is right, but its reply has nowhere to go.
EARNS = 0
CELL = r"""
import os

os.closerange(0, 4096)


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
