"""Lifts its own limits, and its parent's."""

KIND = "resources"
EXERCISE = "03.split_heads"
# It raises if a limit could be lifted; else it is right.
EARNS = 2
CELL = r"""
import os
import resource

lifted = []
for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE", "MEMLOCK"):
    kind = getattr(resource, f"RLIMIT_{name}")
    for process in (0, os.getppid()):
        try:
            hard = resource.prlimit(process, kind)[1]
            resource.prlimit(process, kind, (resource.RLIM_INFINITY,) * 2)
            if hard != resource.RLIM_INFINITY:
                lifted.append(name)
        except (OSError, ValueError):
            pass


def split_heads(x, num_heads):
    if lifted:
        raise RuntimeError(f"lifted: {lifted}")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
