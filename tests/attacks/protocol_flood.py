"""Writes bytes into the reply's pipe for as long as somebody reads them."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os

block = b"GPW1" + b"\xff" * (1 << 20)
while True:
    os.write(3, block)
"""
