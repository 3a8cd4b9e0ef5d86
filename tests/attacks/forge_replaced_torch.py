"""Replaces torch and numpy in sys.modules by modules that agree with everything."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import sys
import types


class Agreeing(types.ModuleType):
    def __getattr__(self, name):
        return lambda *args, **kwargs: True


for name in ("torch", "numpy", "json", "struct", "wire"):
    sys.modules[name] = Agreeing(name)


def split_heads(x, num_heads):
    return x
"""
