"""Prints shapes and values, as one does."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
def split_heads(x, num_heads):
    B, T, D = x.shape
    print("shape", x.shape, "heads", num_heads)
    print(x)
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
