"""Sets every seed, at the top and on every call."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import random

import numpy as np
import torch

torch.manual_seed(1)


def split_heads(x, num_heads):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
