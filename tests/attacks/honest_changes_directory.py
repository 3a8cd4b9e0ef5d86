"""Saves and loads a file in its working folder, and makes a folder."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

import torch

os.makedirs("out", exist_ok=True)
torch.save(torch.ones(3), "out/trial.pt")
ones = torch.load("out/trial.pt")


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
