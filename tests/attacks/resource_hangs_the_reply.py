"""Returns in time, and makes the encoding of what it returned endless."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Endless(dict):
    def items(self):
        while True:
            yield "key", "value"


def split_heads(x, num_heads):
    return Endless()
"""
