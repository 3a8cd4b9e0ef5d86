"""Forks: the parent goes, and the child claims the points on every descriptor."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import time

CLAIM = b'{"status": "passed", "points": 2, "max_points": 2}\n'


def split_heads(x, num_heads):
    if os.fork():
        os._exit(0)
    time.sleep(0.2)
    for fd in range(64):
        try:
            os.write(fd, CLAIM)
        except OSError:
            pass
    os._exit(0)
"""
