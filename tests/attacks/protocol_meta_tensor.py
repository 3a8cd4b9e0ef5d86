"""Returns tensors without contents: meta, sparse, nested, and quantised ones, in turn."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import torch

turn = []


def split_heads(x, num_heads):
    turn.append(1)
    kind = len(turn) % 3
    if kind == 0:
        return torch.empty(1 << 40, device="meta")
    if kind == 1:
        return torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), [1.0], (1 << 40,))
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
"""
