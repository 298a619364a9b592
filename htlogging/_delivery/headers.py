"""Headers of an answer → numbers, whatever is in them."""

from __future__ import annotations

import re
import time
from email.utils import mktime_tz, parsedate_tz

# Digits that are read: more of them are no other wait.
_MAX_DIGITS = 16


def seconds(header: str | None) -> float | None:
    """Return a whole number that is not negative; `None`: it is another text."""
    header = (header or "").strip()
    if not re.fullmatch("[0-9]+", header):
        return None
    return float(header[:_MAX_DIGITS])


def moment(header: str | None) -> float | None:
    """Return a date as seconds since 1970; `None`: it is none, or beyond the calendar."""
    try:
        date = parsedate_tz(header or "")
        # Without a zone it is UTC; mktime_tz would take it for local time.
        return None if date is None else mktime_tz((*date[:9], date[9] or 0))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After: a whole number of them, or a date."""
    asked = seconds(header)
    if asked is None and (until := moment(header)) is not None:
        asked = max(until - time.time(), 0.0)
    return asked
