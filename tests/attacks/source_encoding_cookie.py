"""A cell that says it is written in UTF-7, in which its comment is code."""

KIND = "files"
EXERCISE = "03.split_heads"
# A text has no encoding: the comment means nothing.
EARNS = 2
CELL = r"""
# -*- coding: utf-7 -*-
# +AAo-raise SystemExit('run')


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
