"""Raises a BaseException of its own, whose cause is itself."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Ours(BaseException):
    def __reduce__(self):
        raise self


def split_heads(x, num_heads):
    error = Ours("over")
    error.__cause__ = error.__context__ = error
    raise error
"""
