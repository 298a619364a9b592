"""Headers of an answer → numbers, whatever they contain."""

from __future__ import annotations

import time
from email.utils import mktime_tz, parsedate_tz

# The most digits that are read: a wait of this many seconds is over the limit anyway.
_MAX_DIGITS = 16


def seconds(header: str | None) -> float | None:
    """Return a whole number that is not negative; `None` for another text."""
    header = (header or "").strip()
    if not (header.isascii() and header.isdigit()):
        return None
    return float(header[:_MAX_DIGITS])


def moment(header: str | None) -> float | None:
    """Return a date as seconds since 1970; `None` if it is not a date."""
    try:
        date = parsedate_tz(header or "")
        # Without a zone it is UTC; mktime_tz would take it as local time.
        return None if date is None else mktime_tz((*date[:9], date[9] or 0))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After, which is a whole number or a date."""
    asked = seconds(header)
    if asked is None and (until := moment(header)) is not None:
        asked = max(until - time.time(), 0.0)
    return asked
