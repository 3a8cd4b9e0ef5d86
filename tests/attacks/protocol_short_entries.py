"""Sends entries without fields, of unknown kinds, and fewer of them than there were questions."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

entries = [["l", ["t"]], ["l", ["t", "value"]], ["l", ["t", "passed"]], "x"]
push(message(reply_tree(raw=["l", *entries])))
os._exit(0)
"""
