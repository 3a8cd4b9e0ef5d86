"""Returns a tensor of 60 axes."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    return x.reshape(x.shape + (1,) * 57)
"""
