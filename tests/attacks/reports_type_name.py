"""Raises an error whose class is named as HTML."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
Named = type("<script>alert('MALLORY')</script>", (Exception,), {"__module__": "<b>"})


def split_heads(x, num_heads):
    raise Named("{{ 7 * 7 }} {% include '@CANARY@' %} ${7*7} {0.__class__.__mro__}")
"""
