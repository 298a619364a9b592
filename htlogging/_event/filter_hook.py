"""
Saves what filters change in a record: it is the event's own.

Handlers before ours change records, too, and that is not. So `Logger.filter`, after which
logging calls the handlers, is wrapped when this module is imported. The wrapper looks only
at loggers that have filters. Other wrappers and overrides of the method still run.
"""

from __future__ import annotations

import logging
from logging import Filterer, LogRecord
from operator import is_

from htlogging._event.foreign_records import STANDARD, known_of
from htlogging._event.origin import ORIGIN, Origin, has_fields
from htlogging._event.record_hook import UNUSUAL, is_of_logging
from htlogging._process.interruption import is_passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # What was set, and what was removed.
    Changes = tuple[dict[Any, Any], set[Any]]


def changes(before: dict[Any, Any], after: dict[Any, Any]) -> Changes | None:
    """Return what was set and what was removed, if anything."""
    # Mostly nothing has changed, and this finds it out in half the time. Values are
    # compared by identity, so none of their code runs.
    if all(map(is_, before.values(), after.values())) and list(before) == list(after):
        return None
    put = {k: v for k, v in after.items() if k not in before or before[k] is not v}
    taken = before.keys() - after.keys()
    return (put, taken) if put or taken else None


def apply(own: dict[Any, Any], changed: Changes) -> None:
    """Change an event's own fields as a filter has changed its record."""
    put, taken = changed
    for key in taken:
        own.pop(key, None)
    own.update((k, v) for k, v in put.items() if k not in STANDARD and k != ORIGIN)


def follow(record: LogRecord, other: LogRecord) -> None:
    """Give the `Origin` to a record by which a filter replaced its record."""
    known = record.__dict__.get(ORIGIN)
    if type(known) is Origin:
        known.ids += (id(other),)
        other.__dict__[ORIGIN] = known


def _save(logger: logging.Logger, before: dict[Any, Any], record: LogRecord) -> None:
    """Change what is known about a record as the filters of its logger have changed it."""
    if ORIGIN not in before and not has_fields(record.__dict__):
        return  # an ordinary record
    changed = changes(before, record.__dict__)
    if changed is None:
        return
    put, _ = changed
    if ORIGIN not in before and not has_fields(put):
        return
    known = known_of(record)
    known.logger = logger
    # Another dict, at once: a signal handler may raise in any call.
    own = known.extra.copy()
    apply(own, changed)
    if "msg" in put and known.call is None:
        if record.__dict__.get("ht_event") is known.msg:
            del record.__dict__["ht_event"]
            if isinstance(record.msg, str):
                record.__dict__["ht_event"] = record.msg
        known.msg = record.msg
    known.explicit = known.explicit or has_fields(own)
    known.extra = own
    known.size = len(record.__dict__)


def _saving(
    original: Callable[..., bool | LogRecord],
) -> Callable[..., bool | LogRecord]:
    """Wrap `Logger.filter`."""

    def filter(  # noqa: A001
        self: logging.Logger, record: LogRecord
    ) -> bool | LogRecord:
        # Another tool may replace the parent class's method later.
        if not self.filters and Filterer.filter is _PLAIN:
            # What the standard library's method does; its call would take longer.
            return record if _PASSES_ITSELF else True
        find = Filterer.filter if IS_PLAIN else original
        if not self.filters:
            return find(self, record)
        before = record.__dict__.copy()
        passed = find(self, record)
        if passed:
            # From Python 3.12 on a filter may return another record to use instead.
            if isinstance(passed, LogRecord) and passed is not record:
                follow(record, passed)
                record = passed
            try:
                _save(self, before, record)
            except (RecursionError, MemoryError):
                pass
            except UNUSUAL as exc:
                if is_passing(exc):
                    raise
        return passed

    return filter


# Our `Logger.filter` (another tool may have wrapped it later), and whether it filters in
# the standard library's way.
_ORIGINAL = logging.Logger.filter
FILTER = _saving(_ORIGINAL)
IS_PLAIN = _ORIGINAL is Filterer.filter and is_of_logging(_ORIGINAL)
_PLAIN = _ORIGINAL if IS_PLAIN else None

# Whether `Filterer.filter` returns the record that passes: from Python 3.12 on; else
# `True`.
_PASSES_ITSELF = Filterer().filter(LogRecord("", 0, "", 0, "", (), None)) is not True

logging.Logger.filter = FILTER  # type: ignore[method-assign, assignment]
