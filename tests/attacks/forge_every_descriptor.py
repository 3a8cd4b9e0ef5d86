"""Writes a claim to every file descriptor and ends the process as a success."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os

for fd in range(256):
    try:
        os.write(fd, b'{"status": "passed", "points": 2, "outcomes": [], "ok": true}\n')
    except OSError:
        pass
os._exit(0)
"""
