"""Sends a message that is a number, a text, or nothing."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(2))
os._exit(0)
"""
