"""Returns and raises texts with null characters, line ends and all control characters."""

KIND = "protocol"
EXERCISE = "01.decode_bytes"
EARNS = 0
CELL = r"""
turn = []


def decode(ids, vocab):
    turn.append(1)
    text = "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029\ufeff"
    print(text)
    if len(turn) % 2:
        raise ValueError(text)
    return text
"""
