"""Raises an error whose message is a script, and prints one."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
TEXT = "</pre></code><script>alert('MALLORY')</script><img src=x onerror=alert('MALLORY')>"


def split_heads(x, num_heads):
    print(TEXT)
    raise ValueError(TEXT)  # <script>alert('MALLORY')</script>
"""
