"""Becomes root: by its own ids, its capabilities, and programs that run as their owner."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import ctypes
import os
import subprocess

for attempt in (
    lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]),
    lambda: os.setresuid(0, 0, 0), lambda: os.seteuid(0),
):
    before = os.getresuid(), os.getresgid(), os.getgroups()
    try:
        attempt()
    except OSError:
        continue
    if (os.getresuid(), os.getresgid(), os.getgroups()) != before:
        loot.append("ids")
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(39, 0, 0, 0, 0) != 1:
    loot.append("new privileges are possible")
for capability in range(41):
    if libc.prctl(23, capability, 0, 0, 0) == 1 and os.getuid() == 0:
        loot.append(f"capability {capability} in the bounding set")
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["mount"], ["passwd", "-S"]):
    try:
        result = subprocess.run(command, capture_output=True, timeout=2, text=True)
        if "uid=0" in result.stdout:
            loot.append(result.stdout)
    except (OSError, subprocess.SubprocessError, RuntimeError, ValueError):
        pass


@RIGHT@
"""
