"""Leaves threads that go on in C after the reply was sent."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import ctypes
import threading

libc = ctypes.CDLL(None)
for _ in range(3):
    try:
        threading.Thread(target=libc.sleep, args=(98765,), daemon=True).start()
    except RuntimeError:
        pass


@RIGHT@
"""
