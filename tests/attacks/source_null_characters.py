"""A cell with null characters, form feeds and lone surrogates."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "x = 1\0\n\f\ud800 = 2\n"
