"""Shares tensors through PyTorch's own manager of shared memory."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import torch
import torch.multiprocessing as processes

for strategy in ("file_system", "file_descriptor"):
    try:
        processes.set_sharing_strategy(strategy)
        torch.zeros(1000).share_memory_()
    except (RuntimeError, OSError):
        pass


@RIGHT@
"""
