"""Returns an object that claims to be a tensor, by its class and by its class's class."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch


class Meta(type):
    def __instancecheck__(cls, thing):
        return True

    def __subclasscheck__(cls, thing):
        return True

    def __eq__(cls, other):
        return True

    def __hash__(cls):
        return hash(torch.Tensor)


class Fake(metaclass=Meta):
    shape, ndim, dtype = torch.Size([2, 4, 5, 3]), 4, torch.float32
    layout, device, requires_grad = torch.strided, torch.device("cpu"), False

    @property
    def __class__(self):
        return torch.Tensor

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


def split_heads(x, num_heads):
    return Fake()
"""
