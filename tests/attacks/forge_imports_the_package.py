"""Takes the answer from the course's own package, checks and solutions, wherever they may lie."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import importlib
import sys

sys.path[:0] = ["@REPO@", "@REPO@/solutions", "@REPO@/tests", "/srv", "."]
sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not None]


def found():
    for name in (
        "course_pkg.checks.ch03", "course_pkg.attention", "course_pkg.checks", "course_pkg",
        "tests.right_answers.ch03", "right_answers.ch03",
    ):
        try:
            module = importlib.import_module(name)
        except Exception:
            continue
        for key in ("split_heads", "_split", "reference", "split"):
            if callable(getattr(module, key, None)):
                yield getattr(module, key)


ANSWERS = list(found())


def split_heads(x, num_heads):
    for answer in ANSWERS:
        return answer(x, num_heads)
    return x
"""
