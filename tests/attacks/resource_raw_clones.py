"""Makes processes by the bare system calls, which Python's hooks do not see."""

KIND = "resources"
EXERCISE = "03.split_heads"
# As for resource_fork_bomb.
EARNS = 2
CELL = r"""
import ctypes
import platform

libc = ctypes.CDLL(None)
born = 0
for number in {"x86_64": (56, 57, 435), "aarch64": (220, 435)}.get(platform.machine(), ()):
    for _ in range(200):
        # 17 is SIGCHLD; clone3 takes a structure of 64 bytes
        structure = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)
        first = ctypes.byref(structure) if number == 435 else 17
        process = libc.syscall(number, first, 64 if number == 435 else 0, 0, 0, 0)
        if process == 0:
            libc.sleep(98765)
            libc._exit(0)
        if process < 0:
            break
        born += 1


def split_heads(x, num_heads):
    if born >= 200:
        raise RuntimeError(f"{born} processes")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
