"""Hands the reply's pipe to helpers that hold it open when the answer is done."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os
import threading
import time

held = os.dup(3)


def hold():
    time.sleep(98765)
    os.write(held, b"GPW1")


try:
    threading.Thread(target=hold, daemon=True).start()
    if os.fork() == 0:
        time.sleep(98765)
except (OSError, RuntimeError):
    pass


@RIGHT@
"""
