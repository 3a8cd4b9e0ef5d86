"""Code that reads otherwise than it runs, by characters that turn the direction of text."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    right = "\u202e"  # \u2066 return x.reshape(...).transpose(1, 2) \u2069
    return x * 0 if right else x
"""
