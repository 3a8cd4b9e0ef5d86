"""Returns two shapes in turn whose comparison would be a tensor of gigabytes."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch

turn = []


def split_heads(x, num_heads):
    turn.append(1)
    shape = (40_000, 1, 1, 1) if len(turn) % 2 else (1, 40_000, 1, 1)
    return torch.zeros(shape, dtype=torch.uint8)
"""
