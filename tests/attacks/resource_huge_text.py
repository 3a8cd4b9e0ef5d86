"""Returns a text of half a gigabyte."""

KIND = "resources"
EXERCISE = "01.decode_bytes"
EARNS = 0
CELL = r"""
def decode(ids, vocab):
    return "x" * (1 << 29)
"""
