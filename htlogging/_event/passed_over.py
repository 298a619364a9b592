"""What becomes of a record that is no event: it is not swallowed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice

from htlogging._event import origin
from htlogging._event.record import BARE, handlers, logger_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._event.origin import Origin


def to_last_resort(
    record: logging.LogRecord, known: Origin | None, handler: logging.Handler
) -> None:
    """
    Give an ordinary record to `logging.lastResort`, where only handlers of ours see it.

    Logging does so itself where no handler is found; ours is one, but shows nothing.

    Args:
        record: An ordinary one.
        known: What is known of it.
        handler: The one that passes it over.
    """
    last = logging.lastResort
    if last is None or record.levelno < last.level:
        return
    found = list(handlers(logger_of(record, known)))
    if not all(getattr(each, "makes_events", False) for each in found):
        return
    called = (each for each in found if record.levelno >= each.level)
    if next(called, None) is handler:
        last.handle(record)


def seems_meant(record: logging.LogRecord) -> str | None:
    """Return what of an ordinary record looks as if it was meant as an event."""
    if type(record.msg) is not str and isinstance(record.msg, Mapping):
        return "its message is a dict without an ht_ field"
    # `extra` comes after what every record has.
    for name, value in islice(record.__dict__.items(), len(BARE), None):
        if type(value) is dict and origin.has_fields(value):
            return (
                f"its ht_ fields are inside {str(name)[:40]!r}; give them by themselves"
            )
    return None
