"""Asks for the highest priority, real-time scheduling and every processor."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import ctypes
import os

for attempt in (
    lambda: os.nice(-20),
    lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)),
    lambda: os.sched_setaffinity(0, range(os.cpu_count() or 1)),
    lambda: ctypes.CDLL(None).syscall(251, 1, 0, 1 << 13),
):
    try:
        attempt()
    except (OSError, ValueError):
        pass


def split_heads(x, num_heads):
    if os.getpriority(os.PRIO_PROCESS, 0) < 0 or os.sched_getscheduler(0) == os.SCHED_FIFO:
        raise RuntimeError("got a priority")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
