"""A cell of 100,000 minus signs before a number."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "x = " + "-" * 100_000 + "1\n"
