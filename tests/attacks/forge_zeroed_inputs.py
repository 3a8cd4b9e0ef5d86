"""Sets its input to zero in place, so that a reference computed from it is zero too."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
def split_heads(x, num_heads):
    B, T, D = x.shape
    x.data.zero_()
    return x.new_zeros(B, num_heads, T, D // num_heads)
"""
