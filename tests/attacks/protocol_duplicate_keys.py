"""Sends a JSON object and a dictionary in which the same key stands twice."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame(b'{"seen": 1, "seen": 2}'))
os._exit(0)
"""
