"""Prints and raises control sequences: colours, cleared screens, titles, links, reversed text."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
TEXT = "\x1b[2J\x1b[1;32mpassed\x1b[0m\x1b]0;MALLORY\x07\x1b]8;;http://x\x07\x9b2J\u202edessap\r\b\b"


def split_heads(x, num_heads):
    print(TEXT)
    raise ValueError(TEXT)
"""
