"""Returns an object that says it equals everything."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Anything:
    shape, dtype, ndim = (2, 4, 5, 3), None, 4

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __bool__(self):
        return True

    def __getattr__(self, name):
        return Anything()

    def __call__(self, *args, **kwargs):
        return Anything()


def split_heads(x, num_heads):
    return Anything()
"""
