"""Searches the memory of its own process for judges, misconceptions and the reference."""

KIND = "theft"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
@LOOT@

import gc
import sys
import types

for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType):
        if thing.__name__ in ("_view_alone", "_only_row_0_moves", "_judge_property", "recognise"):
            loot.append(thing.__qualname__)
        if thing.__name__ == "split_heads" and "checks" in (thing.__module__ or ""):
            loot.append(thing.__qualname__)
    if type(thing).__name__ in ("Exercise", "Misconception"):
        loot.append(type(thing).__name__)
for name in ("course_pkg.checks.ch03", "course_pkg.grading.grader", "course_pkg.grading.orders"):
    module = sys.modules.get(name)
    if hasattr(module, "EXERCISES") or hasattr(module, "Desk"):
        loot.append(name)


@RIGHT@
"""
