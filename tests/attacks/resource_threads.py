"""Starts threads until the system refuses."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Threads that cannot start are refused; those that did only sleep.
EARNS = 2
CELL = r"""
import threading
import time

started = 0
try:
    for _ in range(5_000):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        started += 1
except RuntimeError:
    pass


def split_heads(x, num_heads):
    if started >= 5_000:
        raise RuntimeError("started 5,000 threads")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
