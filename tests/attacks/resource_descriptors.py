"""Opens descriptors until the system refuses."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Right: it closes them again.
EARNS = 2
CELL = r"""
import os

opened = []
try:
    while len(opened) < 1_000_000:
        opened.append(os.dup(0))
except OSError:
    pass
for descriptor in opened:
    os.close(descriptor)


def split_heads(x, num_heads):
    if len(opened) >= 1_000_000:
        raise RuntimeError("opened a million descriptors")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
