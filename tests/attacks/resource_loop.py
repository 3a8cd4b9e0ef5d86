"""Never returns."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    while True:
        pass
"""
