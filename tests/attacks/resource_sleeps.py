"""Sleeps for ever and uses no processor time."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import time

while True:
    try:
        time.sleep(10**6)
    except BaseException:
        pass
"""
