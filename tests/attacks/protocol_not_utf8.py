"""Sends a header that is not UTF-8."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame(b'["l","\xff\xfe\xc0\x80"]'))
os._exit(0)
"""
