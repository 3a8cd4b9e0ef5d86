"""Maps 64 TB of memory, and locks what it has."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import ctypes
import mmap

try:
    mmap.mmap(-1, 1 << 46)
    mapped = True
except (OSError, ValueError, OverflowError):
    mapped = False
ctypes.CDLL(None).mlockall(3)


def split_heads(x, num_heads):
    if mapped:
        raise RuntimeError("mapped 64 TB")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
