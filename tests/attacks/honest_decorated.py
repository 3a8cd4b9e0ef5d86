"""Decorates its function: a cache of shapes, a wrapper that counts."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import functools


def counted(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        call.count += 1
        return function(*args, **kwargs)

    call.count = 0
    return call


@functools.lru_cache
def head_dim(width, heads):
    return width // heads


@counted
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, head_dim(D, num_heads)).transpose(1, 2)
"""
