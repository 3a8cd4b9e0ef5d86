"""Ends the process without a word, as if all had gone well."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os


def split_heads(x, num_heads):
    os._exit(0)
"""
