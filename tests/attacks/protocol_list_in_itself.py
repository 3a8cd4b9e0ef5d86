"""Returns a list that holds itself and a dictionary that holds the list."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    value = [x]
    value.append({"again": value})
    value.append(value)
    return value
"""
