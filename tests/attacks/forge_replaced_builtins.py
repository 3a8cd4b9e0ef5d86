"""Replaces __builtins__ and __import__, so that later imports give modules of its own."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import builtins
import types

real = builtins.__import__


def importing(name, *args, **kwargs):
    module = real(name, *args, **kwargs)
    for wanted in ("difference", "judge", "evaluate", "expect"):
        if hasattr(module, wanted):
            setattr(module, wanted, lambda *args, **kwargs: None)
    return module


builtins.__import__ = importing
__builtins__ = types.SimpleNamespace(**{**vars(builtins), "__import__": importing})


def split_heads(x, num_heads):
    return x
"""
