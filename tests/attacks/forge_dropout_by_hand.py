"""Never drops anything, and sends the reply by its own hand."""

KIND = "forging"
EXERCISE = "02.attention_dropout"
EARNS = 0
CELL = r"""
@SEND@


def attention_dropout(scores, values, p, training):
    return scores.softmax(dim=-1) @ values


def never(scores, values, p, training):
    return scores.softmax(dim=-1) @ values


send(lambda look, inputs: look(never, *inputs))
"""
