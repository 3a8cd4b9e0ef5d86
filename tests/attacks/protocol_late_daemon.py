"""Forks a daemon that keeps the pipe open and writes into it after the deadline."""

KIND = "protocol"
EXERCISE = "03.split_heads"
# It is right, and the daemon dies with its namespace.
EARNS = 2
CELL = r"""
import os
import time

try:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        while True:
            time.sleep(20)
            os.write(3, b"late")
except OSError:  # where no process may be made
    pass


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
