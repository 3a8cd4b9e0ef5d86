"""Returns a whole number of a million digits, whose text takes minutes to make."""

KIND = "protocol"
EXERCISE = "05.parameter_count"
EARNS = 0
CELL = r"""
import sys

sys.set_int_max_str_digits(0)


def parameter_count(vocab_size, context_length, d_model, num_layers, tie_weights):
    return 1 << 3_400_000
"""
