"""Returns long texts that take a comparison a quadratic time to tell apart."""

KIND = "reports"
EXERCISE = "01.decode_bytes"
EARNS = 0
CELL = r"""
def decode(ids, vocab):
    return ("ab" * 500_000) + "b" + ("ab" * 500_000)
"""
