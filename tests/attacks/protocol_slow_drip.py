"""Sends its reply one byte a second."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

import time

for byte in message(reply_tree()):
    os.write(3, bytes([byte]))
    time.sleep(1)
"""
