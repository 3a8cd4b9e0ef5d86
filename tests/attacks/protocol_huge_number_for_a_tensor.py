"""Returns a whole number of 390 digits where a tensor of one value is expected."""

KIND = "protocol"
EXERCISE = "06.shifted_cross_entropy"
EARNS = 0
CELL = r"""
def shifted_cross_entropy(logits, ids, mask):
    return 10**390
"""
