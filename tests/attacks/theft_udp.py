"""Sends datagrams to the loopback address, to everybody and to a name server."""

KIND = "theft"
EXERCISE = "03.split_heads"
# The server counts what arrives.
EARNS = 2
CELL = r"""
import socket

for address in ("127.0.0.1", "255.255.255.255", "224.0.0.1"):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(b"MALLORY", (address, int("@PORT@")))
    except OSError:
        pass


@RIGHT@
"""
