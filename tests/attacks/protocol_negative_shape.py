"""Says that a tensor has negative axes, true ones, and axes that are texts."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(reply_tree(["l", ["T", "float32", -1, -1], ["T", "int8", True], ["T", "int8", "1"]])))
os._exit(0)
"""
