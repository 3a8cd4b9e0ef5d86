"""Answers another exercise than the one that was asked for, under both names."""

KIND = "protocol"
EXERCISE = "03.merge_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


def merge_heads(x):
    return split_heads(x.flatten(1, 2), 1)
"""
