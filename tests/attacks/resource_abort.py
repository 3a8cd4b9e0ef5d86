"""Aborts its process and asks for a core dump."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import resource

try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
except (OSError, ValueError):
    pass


def split_heads(x, num_heads):
    os.abort()
"""
