"""Returns a list of a hundred thousand numbers."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    return list(range(100_000))
"""
