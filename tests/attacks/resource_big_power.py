"""Computes 10**10**8, in one call that no exception interrupts."""

KIND = "resources"
EXERCISE = "05.parameter_count"
EARNS = 0
CELL = r"""
def parameter_count(vocab_size, context_length, d_model, num_layers, tie_weights):
    return 10 ** 10**8
"""
