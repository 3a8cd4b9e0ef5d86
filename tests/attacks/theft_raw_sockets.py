"""Makes raw, packet and virtual-machine sockets, for ICMP and for the host."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import socket

for family, kind, protocol in (
    ("AF_INET", socket.SOCK_RAW, 1), ("AF_INET6", socket.SOCK_RAW, 58), ("AF_PACKET", 3, 768),
    ("AF_VSOCK", 1, 0), ("AF_ALG", 5, 0), ("AF_BLUETOOTH", 3, 0), ("AF_CAN", 3, 1),
):
    if hasattr(socket, family):
        try:
            socket.socket(getattr(socket, family), kind, protocol).close()
            loot.append(family)
        except OSError:
            pass


@RIGHT@
"""
