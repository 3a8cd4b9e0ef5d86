"""Says that a NumPy array holds objects, with pointers for contents."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(["N", "object", 4]), b"\x41" * 32))
os._exit(0)
"""
