"""Leaves a daemon: forked twice, in a session of its own, deaf to signals."""

KIND = "persistence"
EXERCISE = "03.split_heads"
# It is right, and what it leaves behind has to be gone.
EARNS = 2
CELL = r"""
import ctypes
import os
import signal
import time

try:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        ctypes.CDLL(None).prctl(15, b"MALLORY", 0, 0, 0)
        while True:
            time.sleep(1)
            open("/tmp/MALLORY_daemon", "w").close()
except OSError:
    pass


@RIGHT@
"""
