"""Returns a pattern that takes 2**64 steps, for the grader to match."""

KIND = "resources"
EXERCISE = "01.split_pattern"
EARNS = 0
CELL = r"""
def split_pattern():
    return r"(?:a|aa|a?|\w|\s|[^x])+(?:(?:.|\s)*)*\Z(?<=nothing)"
"""
