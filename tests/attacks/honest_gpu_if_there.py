"""Would use a graphics card if there were one, and says so."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"using {device}")


def split_heads(x, num_heads):
    B, T, D = x.shape
    x = x.to(device)
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
