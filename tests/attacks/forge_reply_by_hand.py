"""Builds a whole well-formed reply with zeros for answers, and sends it itself."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@


def split_heads(x, num_heads):
    return x


send(lambda look, inputs: inputs[0].new_zeros(
    inputs[0].shape[0], inputs[1], inputs[0].shape[1], inputs[0].shape[2] // inputs[1]
))
"""
