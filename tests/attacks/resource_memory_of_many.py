"""Shares its greed among many processes, each of which stays below the limit of one."""

KIND = "resources"
EXERCISE = "03.split_heads"
# It raises if it got more than anybody may have; else it is right.
EARNS = 2
CELL = r"""
import os
import struct
import time

LIMIT = 6 * 2**30
theirs, ours = os.pipe()
children = []
for _ in range(40):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        kept = []
        try:
            while len(kept) < 5:
                kept.append(b"\1" * (1 << 27))
        except MemoryError:
            pass
        os.write(ours, struct.pack("q", len(kept) << 27))
        time.sleep(600)
    children.append(child)
    if len(children) * (5 << 27) > LIMIT:
        break
os.set_blocking(theirs, False)
total, until = 0, time.monotonic() + 5
while children and time.monotonic() < until and total < LIMIT:
    try:
        total += struct.unpack("q", os.read(theirs, 8))[0]
    except (BlockingIOError, struct.error):
        time.sleep(0.05)
for child in children:
    os.kill(child, 9)


def split_heads(x, num_heads):
    if total >= LIMIT:
        raise RuntimeError(f"{len(children)} processes hold {total >> 20} MB")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
