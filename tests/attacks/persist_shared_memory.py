"""Leaves shared memory, semaphores and message queues, which outlive the process that made them."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import ctypes
import mmap
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.shmget(0x4D414C4C, 4096, 0o1666)
libc.semget(0x4D414C4C, 1, 0o1666)
libc.msgget(0x4D414C4C, 0o1666)
for library in ("librt.so.1", None):
    try:
        ctypes.CDLL(library).mq_open(b"/MALLORY", 0o102, 0o666, None)
    except (OSError, AttributeError):
        pass
try:
    descriptor = os.open("/dev/shm/MALLORY", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, 4096)
    mmap.mmap(descriptor, 4096).write(b"MALLORY")
except OSError:
    pass


@RIGHT@
"""
