"""Sends the first half of a reply and ends."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@


def split_heads(x, num_heads):
    return x


whole = message(reply_tree())
push(whole[: len(whole) // 2])
os._exit(0)
"""
