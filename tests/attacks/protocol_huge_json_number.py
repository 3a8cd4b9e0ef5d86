"""Sends a header with a whole number of four million digits."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame(b"9" * 4_000_000))
os._exit(0)
"""
