"""Reads what tells machines apart: identity files, boot numbers, mounts with their host paths."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

for path in (
    "/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/self/mountinfo", "/proc/self/mounts",
    "/proc/1/mountinfo", "/proc/1/cmdline", "/proc/keys",
):
    opened(path)


@RIGHT@
"""
