"""A cell that is indented deeper than Python allows."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "".join(" " * i + "if 1:\n" for i in range(500)) + " " * 500 + "pass\n"
