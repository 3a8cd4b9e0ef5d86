"""A whole cell for the shell."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
%%bash
touch /tmp/MALLORY @GRADES@/MALLORY
cat @CANARY@
"""
