"""Kills itself, so that the grader thinks of a lack of memory and tries again."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import signal


def split_heads(x, num_heads):
    os.kill(os.getpid(), signal.SIGKILL)
"""
