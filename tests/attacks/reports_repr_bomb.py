"""Returns objects whose repr is a gigabyte, in lists and as keys."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Loud:
    def __repr__(self):
        return "<b>" * 300_000_000

    __str__ = __format__ = __repr__


def split_heads(x, num_heads):
    return [Loud(), {Loud(): Loud()}]
"""
