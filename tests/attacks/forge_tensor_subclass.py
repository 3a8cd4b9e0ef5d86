"""Returns a Tensor subclass whose comparisons, copies and contents lie."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


class Lying(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("eq", "__eq__", "isclose", "allclose", "equal"):
            return torch.tensor(True)
        if func.__name__ in ("detach", "cpu", "clone", "contiguous", "resolve_neg", "numpy"):
            return args[0]
        return super().__torch_function__(func, types, args, kwargs or {})

    @property
    def shape(self):
        return torch.Size([2, 4, 5, 3])

    def __eq__(self, other):
        return torch.tensor(True)

    def __hash__(self):
        return 0


def split_heads(x, num_heads):
    return x.as_subclass(Lying)
"""
