"""Ties nothing, and sends the observations that a tied model would give."""

KIND = "forging"
EXERCISE = "05.tie_weights"
EARNS = 0
CELL = r"""
@SEND@


def tie_weights(model):
    pass


def told(look, inputs):
    vocab_size, d_model = inputs[:2]
    return {
        "one": True, "count": vocab_size * d_model, "kept": 0.0, "as one": 0.0, "missing": 0.0,
        "apart": 0.0,
    }


send(told)
"""
