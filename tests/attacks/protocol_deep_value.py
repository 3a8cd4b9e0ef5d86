"""Returns a list in a list, 100,000 deep."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    value = []
    for _ in range(100_000):
        value = [value]
    return value
"""
