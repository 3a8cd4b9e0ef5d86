"""Writes one file of four gigabytes."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
try:
    with open("/tmp/MALLORY", "wb") as file:
        for _ in range(4_096):
            file.write(b"\1" * (1 << 20))
        split = None
except OSError:
    split = True


def split_heads(x, num_heads):
    if not split:
        raise RuntimeError("wrote 4 GB")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
