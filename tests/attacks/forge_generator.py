"""Returns a generator, a lazy object and a coroutine instead of a tensor."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Lazy:
    def __init__(self, make):
        self.make = make

    def __getattr__(self, name):
        return getattr(self.make(), name)

    def __iter__(self):
        return iter(self.make())


turn = []


def split_heads(x, num_heads):
    B, T, D = x.shape
    turn.append(1)
    right = x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
    if len(turn) % 2:
        return (row for row in right)
    return Lazy(lambda: right)
"""
