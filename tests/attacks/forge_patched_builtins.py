"""Patches the built-ins len, isinstance, sorted, all, any, abs and type."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import builtins

builtins.all = builtins.any = builtins.isinstance = lambda *args: True
builtins.len = lambda thing: 4
builtins.sorted = lambda thing, **kwargs: []
builtins.abs = lambda x: 0
builtins.hash = lambda x: 0


def split_heads(x, num_heads):
    return x
"""
