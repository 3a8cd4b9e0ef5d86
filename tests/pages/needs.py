"""What the tests of the pages cannot do without, and what they tell the summary."""

import os

import pytest

NEEDED = bool(os.environ.get("COURSE_NEEDS_BROWSER"))
WEIGHT, VIOLATIONS = "weight of a page", "violations"  # what tests tell the summary


def demand(missing):
    """Skip a test with the name of what is missing; where a browser is promised, fail."""
    if missing and NEEDED:
        pytest.fail(f"COURSE_NEEDS_BROWSER is set, and {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)
