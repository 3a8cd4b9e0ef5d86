"""Connects to servers on the loopback address, the machine's own addresses and the internet."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import socket

for family, address in (
    (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "localhost"),
    (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1"), (socket.AF_INET, "10.0.2.2"),
):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(0.3)
            client.connect((address, int("@PORT@")))
            loot.append(address)
    except OSError:
        pass


@RIGHT@
"""
