"""Warns, logs and prints HTML to standard error, with a file name of its own."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import logging
import sys
import warnings


def split_heads(x, num_heads):
    warnings.warn_explicit("<script>alert('MALLORY')</script>", UserWarning, "@CANARY@", 1)
    logging.error("<script>alert('MALLORY')</script>")
    print("<script>alert('MALLORY')</script>", file=sys.stderr)
    return x
"""
