"""Mounts, unmounts, makes namespaces, changes its root and makes devices."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for flag, name in (
    (0x10000000, "user"), (0x00020000, "mount"), (0x40000000, "net"), (0x20000000, "pid"),
    (0x02000000, "cgroup"),
):
    if libc.unshare(flag) == 0:
        loot.append(f"a {name} namespace")
for kind in (b"tmpfs", b"proc", b"sysfs", b"overlay"):
    if libc.mount(b"none", b"/tmp", kind, 0, None) == 0:
        loot.append("mount")
if libc.mount(b"/", b"/tmp", None, 4096, None) == 0:
    loot.append("bind mount")
if libc.mount(None, b"/", None, 32 | 4096, None) == 0:
    loot.append("remount")
for path in (b"/tmp", b"/home", b"/proc", b"/dev/shm", b"/usr"):
    if libc.umount2(path, 2) == 0:
        loot.append("unmount")
if libc.chroot(b"/tmp") == 0 or libc.syscall(155, b"/tmp", b"/tmp") == 0:
    loot.append("root")
try:
    os.mknod("/tmp/MALLORY_memory", 0o20666, os.makedev(1, 1))
    loot.append("device")
except OSError:
    pass


@RIGHT@
"""
