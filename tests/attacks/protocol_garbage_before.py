"""Writes a few bytes to the reply's pipe, and then lets the grader's code reply."""

KIND = "protocol"
EXERCISE = "03.split_heads"
# The right answer, but what it wrote before stands in front of the reply.
EARNS = 0
CELL = r"""
import os

os.write(3, b"GPW1\0\0")


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
