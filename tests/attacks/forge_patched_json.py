"""Patches json, struct and bytes.join so that the reply says "passed"."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import json
import struct

SAID = '{"status": "passed", "points": 2, "passed": true}'
json.dumps = lambda *args, **kwargs: SAID
json.JSONEncoder.encode = lambda self, thing: SAID
json.JSONEncoder.iterencode = lambda self, thing, *args: iter([SAID])
struct.pack = lambda *args: SAID.encode()


def split_heads(x, num_heads):
    return x
"""
