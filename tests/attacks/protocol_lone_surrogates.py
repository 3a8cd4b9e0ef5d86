"""Returns, prints and raises texts with lone surrogates, which no file in UTF-8 can hold."""

KIND = "protocol"
EXERCISE = "01.decode_bytes"
EARNS = 0
CELL = r"""
turn = []


def decode(ids, vocab):
    turn.append(1)
    print("printed \ud800\udfff\udcff")
    if len(turn) % 2:
        raise ValueError("raised \ud800\udcff")
    return "\ud800" * 40
"""
