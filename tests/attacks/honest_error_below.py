"""Is right, and fails in a try of its own below the function."""

KIND = "honest"
EXERCISE = "03.split_heads"
# The function is there; what fails under it is odd, and no answer.
EARNS = 2
CELL = r"""
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


print(split_heads(undefined_name, 4))
"""
