"""Draws a figure beside its answer."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import matplotlib.pyplot as plt


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


plt.plot([1, 2, 3])
plt.show()
"""
