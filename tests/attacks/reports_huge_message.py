"""Raises an error with a message of 300 million characters in one line."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    raise ValueError("<" * 300_000_000)
"""
