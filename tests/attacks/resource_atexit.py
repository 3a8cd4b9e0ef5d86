"""Leaves work for the end of the process: exit handlers, finalisers and threads that never end."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import atexit
import threading
import time


class Last:
    def __del__(self):
        time.sleep(600)


atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()
last = Last()


def split_heads(x, num_heads):
    return x
"""
