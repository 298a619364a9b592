"""
Values of the module `datetime`.

Imported with the first such value: `datetime` takes a fifth of the time of importing all
the rest of this package.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UTC = timezone.utc

# Types whose text has a bounded length.
KINDS = frozenset({date, time, datetime})

# A naive timestamp this close to the local time is taken for `datetime.now()`.
_NOW = timedelta(seconds=5)


def timestamp_text(value: Any) -> str | None:
    """
    Return a timestamp as ISO 8601 with an offset, in milliseconds.

    Args:
        value: An aware `datetime`, or a naive one, which is local time when it is within
            5 s of now and UTC otherwise.

    Returns:
        `None` for anything else.

    Raises:
        Exception: An error of its `tzinfo`, or an OverflowError.
    """
    # pandas.NaT is a datetime that is not equal to itself, like NaN.
    if not issubclass(type(value), datetime) or value != value:  # noqa: PLR0124
        return None
    offset = value.utcoffset()
    naive = value.replace(tzinfo=None)
    if offset is None:
        # Both are naive on purpose: is this the local clock's time?
        is_local = abs(datetime.now() - naive) <= _NOW  # noqa: DTZ005
        value = naive.astimezone() if is_local else naive.replace(tzinfo=UTC)
    elif offset % timedelta(minutes=1):
        # ISO 8601 allows no seconds in an offset; local mean times before 1900 have them.
        value = (naive - offset).replace(tzinfo=UTC)
    else:
        value = naive.replace(tzinfo=timezone(offset))
    return datetime.isoformat(value, timespec="milliseconds")
