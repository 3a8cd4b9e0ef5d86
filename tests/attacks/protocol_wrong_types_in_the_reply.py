"""Sends a reply in which every field is of another type than it should be."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message([
    "d", "oddities", 7, "error", ["l", 1, 2], "seen", ["d", "a", 1], "printed", ["l", ["l"]],
    "defined", "yes", "problem", ["T", "float32"], "started", ["f", "nan"],
], b"\0\0\0\0"))
os._exit(0)
"""
