"""Reads address 0."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import ctypes


def split_heads(x, num_heads):
    return ctypes.string_at(0)
"""
