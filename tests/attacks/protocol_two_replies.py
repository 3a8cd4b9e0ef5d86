"""Sends two whole replies, one after the other."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@


def split_heads(x, num_heads):
    return x


push(message(reply_tree()) * 2)
os._exit(0)
"""
