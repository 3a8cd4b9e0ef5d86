"""Sends a header of JSON that is nested 100,000 deep."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame(b"[" * 100_000 + b"]" * 100_000))
os._exit(0)
"""
