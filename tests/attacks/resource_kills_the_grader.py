"""Kills its parent, process 1 and the grader by their numbers."""

KIND = "resources"
EXERCISE = "03.split_heads"
# Right: those numbers mean nothing in its own namespace.
EARNS = 2
CELL = r"""
import os
import signal

for process in (os.getppid(), 1, 2, int("@PARENT@"), int("@PARENT@") + 1):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        if process in (0, os.getpid()):
            continue
        try:
            os.kill(process, number)
        except (OSError, OverflowError):
            pass


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
