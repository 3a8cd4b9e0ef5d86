"""Returns an object whose __torch_function__ answers True to every function of PyTorch."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


class Yes:
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


def split_heads(x, num_heads):
    return Yes()
"""
