"""Raises errors with lone surrogates in the message."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Named(ValueError):
    pass


def split_heads(x, num_heads):
    print("\udcff\ud800")
    raise Named("\ud800\udcff" * 20)
"""
