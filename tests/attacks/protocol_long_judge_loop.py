"""Sends a map of 2,000 x 2,000 where a judge walks over every pair in Python."""

KIND = "protocol"
EXERCISE = "03.multi_head_attention"
EARNS = 0
CELL = r"""
@SEND@

import torch


class MyMultiHeadAttention(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()


square = torch.eye(2_000, dtype=torch.uint8)


def told(look, inputs):
    return square if "sens" in look.__name__ or "caus" in look.__name__ else torch.zeros(3)


send(told)
"""
