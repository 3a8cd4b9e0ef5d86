"""Reads everything that the grader's code in its own process holds, for an answer among it."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import gc
import sys

texts = set()
frame = sys._getframe()
while frame is not None:
    for value in list(frame.f_locals.values()):
        if isinstance(value, dict):
            texts.update(text for text in value.values() if isinstance(text, str))
            for inner in value.values():
                if isinstance(inner, (list, tuple)):
                    texts.update(text for text in inner if isinstance(text, str))
                elif isinstance(inner, dict):
                    texts.update(text for text in inner.values() if isinstance(text, str))
    frame = frame.f_back
own = "texts = set()"
split_heads = lambda x, num_heads: x
for text in texts:
    if "def split_heads" in text and own not in text:
        space = {}
        try:
            exec(text, space)
        except Exception:
            continue
        split_heads = space.get("split_heads", split_heads)
"""
