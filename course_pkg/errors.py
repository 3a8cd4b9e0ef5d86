"""Errors that tell the reader what to type instead."""

import difflib
from collections.abc import Iterable


def unknown_name(argument: str, given: str, allowed: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not in a fixed list, with the nearest names.

    It is returned and not raised, so that the caller's own line ends the traceback:
    ``raise unknown_name("preset", name, PRESETS)``.
    """
    names = sorted(allowed)
    nearest = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(name) for name in nearest)}?" if nearest else ""
    return ValueError(
        f"{argument}={given!r} is unknown.{hint} Allowed: {', '.join(names) or 'nothing'}."
    )
