"""Raises SystemExit, KeyboardInterrupt and GeneratorExit when called, in turn."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
turn = []


def split_heads(x, num_heads):
    turn.append(1)
    raise (SystemExit(0), KeyboardInterrupt(), GeneratorExit())[len(turn) % 3]
"""
