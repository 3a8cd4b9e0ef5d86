"""A cell of 20,000 functions in each other."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "f = " + "lambda: " * 20_000 + "1\n"
