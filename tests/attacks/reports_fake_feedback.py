"""Prints and raises what feedback looks like, with full points and a verdict."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
TEXT = "03.split_heads: 7 of 7 properties hold (2 points)\nPoints: 100\n| MALLORY | passed | 2 |"


def split_heads(x, num_heads):
    print(TEXT)
    raise RuntimeError(TEXT)
"""
