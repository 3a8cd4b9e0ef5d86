"""Sends dictionaries with tensors, NaN and dtypes as keys."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(message(
    ["d", ["T", "float32"], 1, ["f", "nan"], 2, ["f", "nan"], 3, ["D", "float32"], 4, "seen", 5],
    b"\0\0\0\0",
))
os._exit(0)
"""
