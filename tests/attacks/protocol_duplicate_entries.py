"""Sends a dictionary of the protocol with the same key twice, which claims the points."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

tree = reply_tree()
push(message([*tree, "started", True, "status", "passed", "points", 2, "seen", None]))
os._exit(0)
"""
