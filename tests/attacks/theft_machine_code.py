"""Writes machine code into memory and calls the system by its 32-bit gate."""

KIND = "theft"
EXERCISE = "03.split_heads"
# As for theft_other_architectures.
EARNS = 0
CELL = r"""
@LOOT@

import ctypes
import mmap
import platform

if platform.machine() == "x86_64":
    # mov eax, 359 (socket); mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80; ret
    code = bytes.fromhex("53b867010000bb02000000b90100000031d2cd805bc3")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    if run() >= 0:
        loot.append("a socket")


@RIGHT@
"""
