"""Computes the right values and sends the reply itself: shows that the forged ones fit."""

KIND = "forging"
EXERCISE = "03.split_heads"
# The values are the right ones, computed: that is the exercise, whoever sends them.
EARNS = 2
CELL = r"""
@SEND@


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


send(lambda look, inputs: look(split_heads, *inputs))
"""
