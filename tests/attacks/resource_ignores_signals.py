"""Blocks and ignores every signal, and loops in C."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import ctypes
import signal

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
signal.setitimer(signal.ITIMER_REAL, 0)
ctypes.CDLL(None).pause()
while True:
    ctypes.CDLL(None).sleep(10**6)
"""
