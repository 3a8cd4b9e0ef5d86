"""Poisons PyTorch, its generators and its thread pool for whoever uses the same process next."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch

torch.set_num_threads(64)
torch.use_deterministic_algorithms(True)
torch.set_default_dtype(torch.float64)
torch.manual_seed = lambda seed: None
torch.Tensor.reshape = torch.Tensor.transpose = torch.Tensor.view = lambda self, *args: self * 0
torch.set_grad_enabled(False)


def split_heads(x, num_heads):
    return x
"""
