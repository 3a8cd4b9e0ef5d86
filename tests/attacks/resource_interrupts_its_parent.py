"""Interrupts process 1 of its namespace, in which Python installed a handler."""

KIND = "resources"
EXERCISE = "03.split_heads"
# It may end the process that waits for it, and with it its own answer; nobody else's.
EARNS = 0
CELL = r"""
import os
import signal
import time

for _ in range(50):
    try:
        os.kill(1, signal.SIGINT)
    except OSError:
        pass
    time.sleep(0.01)


def split_heads(x, num_heads):
    return x
"""
