"""Waits for a lock that it holds itself."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import threading

lock = threading.Lock()
lock.acquire()


def split_heads(x, num_heads):
    lock.acquire()
"""
