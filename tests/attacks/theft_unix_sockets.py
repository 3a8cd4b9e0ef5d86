"""Connects to the sockets of services: by path, and by a name without a path."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import socket

for address in (
    "@UNIX@", "\0@UNIX@", "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "\0/tmp/.X11-unix/X0", "/run/user/0/bus",
):
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(0.3)
            client.connect(address)
            loot.append(repr(address))
    except OSError:
        pass


@RIGHT@
"""
