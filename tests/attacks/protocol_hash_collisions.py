"""Sends a set of 60,000 whole numbers that all have the same hash."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

prime = 2**61 - 1
push(message(reply_tree(["s", *(["i", str(i * prime)] for i in range(10, 60_000))])))
os._exit(0)
"""
