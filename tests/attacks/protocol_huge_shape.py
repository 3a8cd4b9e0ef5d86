"""Says that a tensor has 2**62 numbers and sends none."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(["T", "float32", 2**31 - 1, 2**31 - 1])))
os._exit(0)
"""
