"""Sends 300,000 entries for every question."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(raw=["l", ["l", *[0] * 300_000]])))
os._exit(0)
"""
