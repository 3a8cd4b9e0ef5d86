"""Fills memory page by page until there is none."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
kept = []
while True:
    kept.append(b"\1" * (1 << 26))
"""
