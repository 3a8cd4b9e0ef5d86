"""What the exercises ask for, and how an answer is held against it."""

from course_pkg.checks.engine import CheckFailed, all_exercises, check

__all__ = ["CheckFailed", "all_exercises", "check"]
