"""
Events that no handler of ours sees: their logger's name is wrong, or its level drops them.

Nothing of ours is called for such an event. So the first one on each logger is looked at where
logging makes the record. For one that a level drops, it makes none: it asks
`Logger.getEffectiveLevel` at a logger's first call of each level, and remembers the answer. So
`watch` wraps this method: it sees the first call that is dropped. Later calls cost no more than
before, and cannot be reported.
"""

from __future__ import annotations

import logging
import sys
from logging import DEBUG, INFO, Logger
from logging.handlers import QueueHandler, SysLogHandler

from htlogging._event import unknown_fields
from htlogging._event.origin import has_fields, is_ours
from htlogging._process import deferred, lines, locks, shutdown
from htlogging._process.lines import where
from htlogging._process.loggers import all_loggers, handlers, is_near, makes_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# Names of loggers that were looked at. Added to by any thread, up to a bound.
known: set[str] = set()

_MAX_KNOWN = 1_000  # names

# Seconds after which a queue's listener should run.
_STARTING = 1.0

# These, and what is derived from them, write records out. Handlers of other types may pass
# them on, to a queue, a socket or another logging package.
_WRITERS = (logging.StreamHandler, logging.NullHandler, SysLogHandler)

# The function in which logging asks, under its lock.
_ASKS = Logger.isEnabledFor.__code__

# Packages that log for their callers.
_LOGGING = ("logging", "structlog")

# Names of loggers that were looked at, and whether the level passed. Added to by any
# thread, up to a bound.
_looked_at: set[tuple[str, bool]] = set()


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


def _look(logger: logging.Logger, level: int, frame: FrameType) -> None:
    """
    Look at a call that may drop an event; report it on a thread that holds no lock.

    Args:
        logger: It is asked.
        level: Its effective level.
        frame: That of `isEnabledFor`.
    """
    asked = frame.f_locals.get("level")
    if type(asked) is not int:
        return
    passes = asked >= level
    # Two mistakes: debugging is on for all loggers, or the root logger's level applies
    # to one that has none.
    if asked != DEBUG if passes else asked < INFO or _has_level(logger):
        return
    key = (logger.name, passes)
    if key in _looked_at or len(_looked_at) >= _MAX_KNOWN or is_ours(logger):
        return
    if logger is not logging.root and any(
        getattr(type(handler), "makes_events", False) for handler in logger.handlers
    ):
        _looked_at.add(key)
        deferred.do(_report_loggers)
    elif not passes:
        why = _fields(frame)
        if why is not None:
            _looked_at.add(key)
            place = f"{logger.name!r} at {_caller(frame)}"
            deferred.do(lambda: report_below(logger, place, why))
        elif is_near(logger.name):
            _looked_at.add(key)
            deferred.do(_report_loggers)


def _report_loggers() -> None:
    # The logger has noted its answer once the lock is free again.
    with locks.of_logging():
        pass
    shutdown.report_loggers()


def _has_level(logger: logging.Logger) -> bool:
    # The root logger has one from the start.
    return bool(logger.level) and logger is not logging.root


def _fields(frame: FrameType | None) -> str | None:
    """
    Look for `ht_` fields in the call of a logger, or of an adapter.

    Returns:
        `None` if there is none; else why they make no event, or nothing.
    """
    while frame is not None and frame.f_code.co_filename == _ASKS.co_filename:
        names = frame.f_locals
        keywords, caller = names.get("kwargs"), names.get("self")
        given = [names.get("msg")]
        if type(keywords) is dict:
            given.append(keywords.get("extra"))
        if isinstance(caller, logging.LoggerAdapter):
            given.append(caller.extra)
        for each in given:
            if type(each) is dict and has_fields(each):
                return ""
            why = unknown_fields.seems_rendered(each)
            if why:
                return why
        frame = frame.f_back
    return None


def _caller(frame: FrameType | None) -> str:
    """Return the file and the line that a call was made in."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _LOGGING:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "(unknown file)"


def _looking(ask: Callable[[Logger], int]) -> Callable[[Logger], int]:
    """Wrap `Logger.getEffectiveLevel`."""

    def getEffectiveLevel(self: Logger) -> int:  # noqa: N802
        level = ask(self)
        if (level > INFO or level <= DEBUG) and shutdown.is_any_living():
            try:
                frame = sys._getframe(1)  # noqa: SLF001
                if frame.f_code is _ASKS:
                    _look(self, level, frame)
            except (RecursionError, MemoryError):
                pass  # the application's call comes first
        return level

    getEffectiveLevel.__doc__ = ask.__doc__
    return getEffectiveLevel


def watch() -> None:
    """Look at what loggers answer from now on."""
    ask = Logger.getEffectiveLevel
    Logger.getEffectiveLevel = _looking(ask)  # type: ignore[method-assign,assignment]
