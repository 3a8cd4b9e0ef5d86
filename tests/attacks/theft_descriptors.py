"""Looks at every descriptor it was born with, for folders, sockets and files to climb out of."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import os
import stat

for descriptor in range(4096):
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        continue
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        loot.append(f"descriptor {descriptor}: {stat.filemode(mode)}")
    elif stat.S_ISREG(mode) and os.fstat(descriptor).st_nlink:
        loot.append(f"descriptor {descriptor} is a file")
    if descriptor == 3:
        try:
            if os.read(descriptor, 1):
                loot.append("the reply's pipe can be read")
        except OSError:
            pass


@RIGHT@
"""
