"""Prints a reply on standard output and standard error, past any redirection."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

reply = message(reply_tree())
for descriptor in (1, 2):
    os.write(descriptor, reply)
print('{"status": "passed", "points": 2}', file=sys.__stdout__)
print('{"status": "passed", "points": 2}', file=sys.__stderr__)


def split_heads(x, num_heads):
    return x
"""
