"""Takes two seconds, and is right."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import time

time.sleep(1.5)


def split_heads(x, num_heads):
    time.sleep(0.02)
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
