"""
Events on a logger that no handler of ours sees: most often the logger's name is wrong.

Nothing of ours is called for such a record. So the first event on each logger is looked at
where logging makes it.
"""

from __future__ import annotations

import logging
from logging.handlers import SysLogHandler

from htlogging import _lines
from htlogging._lines import where
from htlogging._loggers import handlers, loggers
from htlogging._process import shutdown

# Names of loggers that were looked at. Added to by any thread, up to a bound.
known: set[str] = set()

_MAX_KNOWN = 1_000

# These, and what is derived from them, write records out. Handlers of other types may pass
# them on, to a queue, a socket or another logging package.
_WRITERS = (logging.StreamHandler, logging.NullHandler, SysLogHandler)


def report(record: logging.LogRecord, logger: logging.Logger) -> None:
    """
    Report an event that no handler sees, if there is a handler elsewhere.

    Args:
        record: It has an `ht_` field.
        logger: It makes the record.
    """
    # Without a handler the logger is looked at again: the configuration may come later.
    hosts = {handler.host for handler in shutdown.living() if handler.sends}
    if not hosts or logger.name != record.name or len(known) >= _MAX_KNOWN:
        return
    known.add(logger.name)
    if all(_is_writer(handler) for handler in handlers(logger)):
        _lines.unhandled(where(record), _others(), ", ".join(sorted(hosts)))


def _is_writer(handler: logging.Handler) -> bool:
    """Return whether a handler surely makes no event, nor passes a record on."""
    return isinstance(handler, _WRITERS) and not hasattr(handler.formatter, "to_event")


def _others() -> list[str]:
    """Return the names of loggers that have a handler of ours."""
    return sorted(
        logger.name
        for logger in loggers()
        if any(hasattr(handler, "makes_events") for handler in logger.handlers)
    )
