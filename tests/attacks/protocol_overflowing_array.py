"""Says that an empty NumPy array has axes whose product overflows."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(["N", "float64", 2**31 - 1, 2**31 - 1, 2**31 - 1, 0])))
os._exit(0)
"""
