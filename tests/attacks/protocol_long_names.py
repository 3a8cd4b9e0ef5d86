"""Returns objects and raises errors whose types have names of ten million characters."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
turn = []


def split_heads(x, num_heads):
    turn.append(1)
    kind = type("A<b>" * 2_500_000, (Exception,), {})
    if len(turn) % 2:
        raise kind("x" * 10_000_000)
    return kind()
"""
