"""
Events on a logger that no handler of ours sees: most often the logger's name is wrong.

Nothing of ours is called for such a record. So the first event on each logger is looked at
where logging makes it.
"""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler, SysLogHandler

from htlogging._process import deferred, lines, shutdown
from htlogging._process.lines import where
from htlogging._process.loggers import all_loggers, handlers, makes_events

# Names of loggers that were looked at. Added to by any thread, up to a bound.
known: set[str] = set()

_MAX_KNOWN = 1_000

# Seconds after which a queue's listener should run.
_STARTING = 1.0

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
    if logger.name == record.name and _is_new(logger):
        reached = list(handlers(logger))
        if all(map(_is_writer, reached)):
            lines.unhandled(where(record), _others(), _hosts())
        elif any(isinstance(handler, QueueHandler) for handler in reached):
            # A listener may be started after the first event.
            deferred.later(lambda: shutdown.report_loggers(listeners=True), _STARTING)


def report_below(logger: logging.Logger, place: str, why: str) -> None:
    """
    Report an event that its logger drops because of a level, if there is a handler.

    Args:
        logger: It has no level.
        place: The logger, the file and the line.
        why: Why it would be no event at any level, or nothing.
    """
    if not _is_new(logger):
        return
    if why:
        lines.no_event(why, place, _hosts())
        return
    reached = list(handlers(logger))
    if any(map(makes_events, reached)):
        above = logger
        while not above.level and above.parent is not None:
            above = above.parent
        level = logging.getLevelName(above.level)
        lines.below_level(place, logger.name, above.name, level, _hosts())
    elif all(map(_is_writer, reached)):
        lines.unhandled(place, _others(), _hosts())


def _is_new(logger: logging.Logger) -> bool:
    """Return whether a logger was not looked at yet, and should be."""
    # Without a handler it is looked at again: the configuration may come later.
    if logger.name in known or len(known) >= _MAX_KNOWN or not _hosts():
        return False
    known.add(logger.name)
    return True


def _hosts() -> str:
    return ", ".join(sorted({h.host for h in shutdown.living() if h.sends}))


def _is_writer(handler: logging.Handler) -> bool:
    """Return whether a handler surely makes no event, nor passes a record on."""
    return isinstance(handler, _WRITERS) and not hasattr(handler.formatter, "to_event")


def _others() -> list[str]:
    """Return the names of loggers that have a handler of ours."""
    return sorted(
        logger.name
        for logger in all_loggers()
        if any(map(makes_events, logger.handlers))
    )
