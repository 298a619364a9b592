"""
Moments → ISO 8601.

`datetime` is imported with the first such value: it takes a fifth of the time of importing
all the rest of this package.
"""

from __future__ import annotations

import math
import time

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo
    from types import ModuleType
    from typing import Any

# Neither ISO 8601 nor `datetime` has a later year.
LAST_YEAR = 9999

# Seconds. A naive timestamp this near to the local time of now is `datetime.now()`'s.
_NOW = 5

# The last whole second, and its text. Replaced as a whole, so that threads and signal
# handlers see a pair that belongs together. A forked child keeps it.
_second = (0.0, "")

# The texts of the milliseconds that were used. Formatting one takes 0.15 us.
_milliseconds: dict[int, str] = {}


def iso(seconds: float) -> str:
    """
    Return a time in UTC, in milliseconds.

    It does without `datetime`, whose import takes a fifth of the time of importing this
    package, and it takes an eighth of the time of `datetime`.

    Raises:
        ValueError: It is not a number, or its year is not from 1 to 9999.
        OverflowError: It is far outside these years.
    """
    global _second  # noqa: PLW0603
    whole, text = _second
    part = seconds - whole
    if not 0.0 <= part < 1.0 or not text:
        whole = float(math.floor(seconds))
        part = seconds - whole
        year, *rest = time.gmtime(whole)[:6]
        if not 1 <= year <= LAST_YEAR:
            raise ValueError(f"the year {year} cannot be written")
        text = f"{year:04}-{{:02}}-{{:02}}T{{:02}}:{{:02}}:{{:02}}".format(*rest)
        _second = (whole, text)
    # Today a float is exact to tenths of microseconds: 0.123 s may be 0.12299999.
    number = int(part * 1000.0 + 0.0005)
    try:
        return text + _milliseconds[number]
    except KeyError:
        ending = f".{min(number, 999):03d}+00:00"  # rounding may give 1,000
        _milliseconds[number] = ending
        return text + ending


@fork.late_import
def _datetime() -> ModuleType:
    import datetime as dt

    return dt


def dated() -> tuple[frozenset[type], tzinfo]:
    """Return the types whose text is ISO 8601, of bounded length, and their UTC."""
    dt = _datetime()
    return frozenset({dt.date, dt.time, dt.datetime}), dt.timezone.utc


def timestamp_text(value: Any) -> str | None:
    """
    Return a timestamp as ISO 8601 with an offset, in milliseconds.

    Args:
        value: An aware `datetime`, or a naive one, which is local time when it is within
            5 s of now and UTC otherwise.

    Returns:
        `None` for anything else.

    Raises:
        Exception: What its `tzinfo` raised, or an OverflowError.
    """
    dt = _datetime()
    datetime, timedelta, timezone = dt.datetime, dt.timedelta, dt.timezone
    # pandas.NaT is a datetime that differs from itself, as NaN does.
    if not issubclass(type(value), datetime) or value != value:  # noqa: PLR0124
        return None
    offset = value.utcoffset()
    naive = value.replace(tzinfo=None)
    if offset is None:
        # Both naive on purpose: the question is whether this is the clock's own.
        is_local = abs(datetime.now() - naive) <= timedelta(seconds=_NOW)
        value = naive.astimezone() if is_local else naive.replace(tzinfo=timezone.utc)
    elif offset % timedelta(minutes=1):
        # ISO 8601 has no seconds in an offset; local mean times before 1900 do.
        value = (naive - offset).replace(tzinfo=timezone.utc)
    else:
        value = naive.replace(tzinfo=timezone(offset))
    text: str = datetime.isoformat(value, timespec="milliseconds")
    return text
