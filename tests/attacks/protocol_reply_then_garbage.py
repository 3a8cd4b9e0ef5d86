"""Sends a reply with a megabyte of garbage behind it."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@


def split_heads(x, num_heads):
    return x


push(message(reply_tree()) + os.urandom(1 << 20))
os._exit(0)
"""
