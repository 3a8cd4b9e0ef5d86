"""Raises an error whose text takes for ever to write."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Endless(Exception):
    def __str__(self):
        while True:
            pass


def split_heads(x, num_heads):
    raise Endless()
"""
