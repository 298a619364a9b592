"""Records that are not events: they must not get lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice

from htlogging._event import origin
from htlogging._event.foreign_records import BARE
from htlogging._event.record import logger_of
from htlogging._event.unknown_fields import seems_rendered
from htlogging._process.lines import where
from htlogging._process.loggers import behind_queues, handlers, makes_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._event.origin import Origin
    from htlogging._report import Report


def handle(
    record: logging.LogRecord,
    known: Origin | None,
    handler: logging.Handler,
    report: Report | None,
) -> bool:
    """
    Handle a record that is not an event.

    Args:
        record: The record.
        known: What is known about it.
        handler: The handler that ignores it.
        report: Reports it if it looks as if an event was meant; `None`: no report.

    Returns:
        Whether it was reported.
    """
    if known is not None and known.call is not None:
        return False  # another client's
    to_last_resort(record, known, handler)
    what = None if report is None else seems_meant(record)
    if report is None or what is None or origin.is_ours(record):
        return False
    report.not_an_event(what, where(record))
    return True


def to_last_resort(
    record: logging.LogRecord, known: Origin | None, handler: logging.Handler
) -> None:
    """
    Give an ordinary record to `logging.lastResort` if only our handlers see it.

    Logging does that itself if it finds no handler. Ours is a handler, but prints nothing.

    Args:
        record: An ordinary record.
        known: What is known about it.
        handler: The handler that ignores it.
    """
    last = logging.lastResort
    if last is None or record.levelno < last.level:
        return
    logger = logger_of(record, known)
    for each in handlers(logger):
        if not (each is handler or hasattr(each, "listener") or makes_events(each)):
            return  # mostly at once: another handler writes it
    found: list[logging.Handler] = []
    for each in handlers(logger):
        found += list(behind_queues([each])) or [each]
    if not all(map(makes_events, found)):
        return
    called = (each for each in found if record.levelno >= each.level)
    if next(called, None) is handler:
        last.handle(record)


def seems_meant(record: logging.LogRecord) -> str | None:
    """Return a name on an ordinary record that looks as if an event was meant."""
    if type(record.msg) is not str and isinstance(record.msg, Mapping):
        return "its message is a dict without an ht_ field"
    wrong = seems_rendered(record.msg)
    if wrong is not None:
        return wrong
    now, args = record.__dict__, record.args
    if type(args) is not tuple and _hides_fields(args):
        return _hidden_in("args")
    if len(now) > len(BARE):
        # The attributes from `extra` come after those of every record.
        for name, value in islice(now.items(), len(BARE), None):
            if _hides_fields(value):
                return _hidden_in(name)
    return None


def _hides_fields(value: Any) -> bool:
    # Not `isinstance`, which would evaluate a lazy object of Django's.
    return issubclass(type(value), dict) and origin.has_fields(value)


def _hidden_in(name: object) -> str:
    return f"its ht_ fields are inside {str(name)[:40]!r}; give them in extra=, by themselves"
