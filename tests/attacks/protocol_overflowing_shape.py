"""Says that an empty tensor has axes whose strides overflow."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(["T", "float32", 0, 2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1])))
os._exit(0)
"""
