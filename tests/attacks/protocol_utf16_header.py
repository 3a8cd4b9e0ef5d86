"""Sends a header in UTF-16 with a byte order mark, which json.loads would take as bytes."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame('["l"]'.encode("utf-16")))
os._exit(0)
"""
