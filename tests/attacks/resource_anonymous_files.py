"""Fills memory files without a name, which no limit on folders counts."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

held = 0
block = b"\1" * (1 << 20)
for _ in range(200):
    try:
        descriptor = os.memfd_create("MALLORY")
        while held < 6 * 2**30:
            held += os.write(descriptor, block)
    except OSError:
        continue


def split_heads(x, num_heads):
    if held > 2**31:
        raise RuntimeError(f"holds {held >> 20} MB in files without a name")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
