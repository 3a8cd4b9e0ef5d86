"""Makes a socket by the numbers of another architecture, which a filter may have forgotten."""

KIND = "theft"
EXERCISE = "03.split_heads"
# What is not filtered fails all the same; who tries it may be killed.
EARNS = 0
CELL = r"""
@LOOT@

import ctypes
import platform

if platform.machine() == "x86_64":
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(41 | 0x40000000, 2, 1, 0) >= 0:
        loot.append("a socket")


@RIGHT@
"""
