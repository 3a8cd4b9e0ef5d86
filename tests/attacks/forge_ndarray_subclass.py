"""Returns a NumPy subclass whose shape, copy and comparison lie."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import numpy as np


class Lying(np.ndarray):
    def __eq__(self, other):
        return np.True_

    def __array__(self, *args, **kwargs):
        return np.zeros((2, 4, 5, 3), dtype=np.float32)

    def copy(self, *args, **kwargs):
        return self

    def tobytes(self, *args, **kwargs):
        return b"\0" * (2 * 4 * 5 * 3 * 4)


def split_heads(x, num_heads):
    return np.asarray(x).view(Lying)
"""
