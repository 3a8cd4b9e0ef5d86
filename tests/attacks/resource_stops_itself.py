"""Stops its own process, so that no timer of its own runs out."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import signal

os.kill(os.getpid(), signal.SIGSTOP)
os.kill(0, signal.SIGSTOP)


def split_heads(x, num_heads):
    return x
"""
