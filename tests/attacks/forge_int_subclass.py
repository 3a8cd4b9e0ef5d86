"""Returns an int subclass whose arithmetic, comparison and text lie."""

KIND = "forging"
EXERCISE = "05.parameter_count"
EARNS = 0
CELL = r"""
class Number(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def __sub__(self, other):
        return Number(1)

    def __abs__(self):
        return 0

    def __int__(self):
        return 7

    def __str__(self):
        return "[true"

    __repr__ = __str__


def parameter_count(vocab_size, context_length, d_model, num_layers, tie_weights):
    return Number(12)
"""
