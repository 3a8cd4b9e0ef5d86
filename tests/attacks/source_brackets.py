"""A cell of 100,000 open brackets, which breaks parsers."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "(" * 100_000 + "\n"
