"""A cell of 60,000 attributes of attributes, and as many operators."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "x = x" + ".x" * 40_000 + "\ny = 1" + "+1" * 40_000 + "\n"
