"""Returns an object whose class is named as HTML, a template and a formula."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
Named = type("=cmd|'/C calc'!A0<script>alert('MALLORY')</script>{{ 7 * 7 }}", (), {})


def split_heads(x, num_heads):
    return Named()
"""
