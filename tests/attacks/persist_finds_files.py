"""Looks for files, shared memory and processes that another student left."""

KIND = "persistence"
EXERCISE = "03.split_heads"
# It raises if it meets anything that another student left.
EARNS = 2
CELL = r"""
@LOOT@

import ctypes
import os

for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", "/home", os.path.expanduser("~"), "."):
    for place, _, names in os.walk(folder):
        loot.extend(f"{place}/{name}" for name in names)
libc = ctypes.CDLL(None, use_errno=True)
if libc.shmget(0x4D414C4C, 0, 0) >= 0:
    loot.append("shared memory")
for process in range(2, 2_000):
    try:
        os.kill(process, 0)
    except OSError:
        continue
    if process != os.getpid():
        loot.append(f"process {process}")


@RIGHT@
"""
