"""Opens the memory of every other process, and reads it with process_vm_readv and ptrace."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import ctypes
import glob
import os

libc = ctypes.CDLL(None, use_errno=True)
others = [int(path.split("/")[2]) for path in glob.glob("/proc/[0-9]*")]
for process in {*others, *range(1, 40), os.getppid(), int("@PARENT@")} - {os.getpid()}:
    opened(f"/proc/{process}/mem")
    space = ctypes.create_string_buffer(8)

    class Part(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

    here = Part(ctypes.cast(space, ctypes.c_void_p).value, 8)
    if libc.process_vm_readv(process, ctypes.byref(here), 1, ctypes.byref(here), 1, 0) > 0:
        loot.append(f"read memory of {process}")
    if libc.ptrace(16, process, 0, 0) == 0:
        loot.append(f"attached to {process}")
        libc.ptrace(17, process, 0, 0)


@RIGHT@
"""
