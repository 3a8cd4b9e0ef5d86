"""Times its whole cell, as notebooks do."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
%%time
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
