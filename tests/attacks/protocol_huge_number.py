"""Returns a whole number of 390 digits, which no float can hold, where a loss is expected."""

KIND = "protocol"
EXERCISE = "06.evaluate"
EARNS = 0
CELL = r"""
def evaluate(model, batches):
    return 10**390
"""
