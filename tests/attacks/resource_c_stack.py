"""Overflows the stack of the interpreter in C."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import sys

sys.setrecursionlimit(2**31 - 1)


class Deep:
    def __getattr__(self, name):
        return getattr(self, name + "x")

    __repr__ = __str__ = lambda self: str(self)


def split_heads(x, num_heads):
    return getattr(Deep(), "x"), repr(Deep())
"""
