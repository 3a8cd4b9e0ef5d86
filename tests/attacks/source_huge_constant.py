"""A cell whose constants are folded into gigabytes when it is compiled."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "x = (('a' * 4095,) * 255,) * 255\ny = 1 << 10**9\nz = " + "9" * 100_000 + "\n"
