"""Answers that are dictionaries of values: predictions and measurements."""

from collections.abc import Callable
from typing import Any

from course_pkg.checks.compare import difference, expect, show


def entry_is(
    name: str, expected: Any, remark: str, *, tolerance: float | None = None
) -> Callable[[Any], None]:
    """A ``judge``: the answer's entry ``name`` is ``expected``, within ``tolerance``.

    What is expected stays out of the message, since finding it is the exercise. ``remark`` ends
    the sentence that tells the learner's own entry: "is 12, which the count does not give".
    """

    def judge(seen: Any) -> None:
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        got = seen[name]
        if isinstance(expected, dict):
            missing = [key for key in expected if not isinstance(got, dict) or key not in got]
            expect(not missing, f"your entry {name!r} has no {missing[:1]}")
            for key, value in expected.items():
                same = difference(got[key], value, tolerance=tolerance) is None
                expect(same, f"your {name!r} of {key!r} is {show(got[key])}, {remark}")
        else:
            same = difference(got, expected, tolerance=tolerance) is None
            expect(same, f"your {name!r} is {show(got)}, {remark}")

    return judge
