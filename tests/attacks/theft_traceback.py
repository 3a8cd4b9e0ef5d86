"""Raises from code that says its lines are those of a secret file, for the report to print."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
space = {}
exec(compile("def split_heads(x, num_heads):\n    raise ValueError('see my line')\n",
             "@CANARY@", "exec"), space)
split_heads = space["split_heads"]
"""
