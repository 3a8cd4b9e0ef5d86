"""Sends NaN, Infinity and fractions as JSON numbers."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

push(frame(b'["l",NaN,Infinity,-Infinity,1e999,0.1]'))
os._exit(0)
"""
