"""Who would see a record: if only our handler would, the facade makes none."""

from __future__ import annotations

import logging
from logging import INFO, Filterer, Logger, LogRecord

from htlogging._event import filter_hook, record_hook
from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler
from htlogging._process.loggers import behind_queues

# A tool that replaces one of these, for all loggers, for its own class or for one logger,
# wants to see every record.
_WATCHABLE = frozenset({"callHandlers", "filter", "handle", "makeRecord"})
_FILE = logging.Handler.handle.__code__.co_filename


def _own(function: object) -> object:
    """Return a function if it is the standard library's; `None` if it was replaced."""
    code = getattr(function, "__code__", None)
    return function if code is not None and code.co_filename == _FILE else None


# As they are when this module is imported; a tool may have replaced them before.
_CALL_HANDLERS = _own(Logger.callHandlers)
_FILTER = filter_hook.FILTER if filter_hook.IS_PLAIN else None
_FILTER_BELOW = Filterer.filter
_HANDLE = _own(Logger.handle)
_MAKE_RECORD = record_hook.MAKE_RECORD if record_hook.IS_PLAIN else None

# The attributes of every logger; a replaced method is one more. Looking for replaced
# methods each time would take 0.2 us.
_ATTRIBUTES = len(logging.getLogger(LOGGER).__dict__)

# The classes whose methods these are.
_CLASSES = frozenset({Logger, logging.RootLogger})

_ROOT = logging.root


def only_handler(logger: Logger) -> HtEventsHandler | None:  # noqa: C901
    """
    Return the handler of a logger if only this handler would see a record, else `None`.

    Making a record and passing it around takes a third of a call's time.
    """
    if (
        Logger.callHandlers is not _CALL_HANDLERS
        or Logger.makeRecord is not _MAKE_RECORD
        or Logger.handle is not _HANDLE
        or Logger.filter is not _FILTER
        or Filterer.filter is not _FILTER_BELOW
        or type(logger) not in _CLASSES
        or logger.filters
        or (
            len(logger.__dict__) > _ATTRIBUTES
            and not _WATCHABLE.isdisjoint(logger.__dict__)
        )
        or logging._logRecordFactory is not LogRecord  # type: ignore[attr-defined]  # noqa: SLF001
    ):
        return None
    # The logger, the loggers above it and the root logger are read in different places,
    # so that the interpreter's inline caches of attributes fit each: 0.05 us less.
    only: HtEventsHandler | None = None
    for handler in logger.handlers:
        # Not a subclass, which may need the record.
        if type(handler) is not HtEventsHandler or only is not None:
            return None
        only = handler
    above = logger.parent if logger.propagate else None
    while above is not None:
        if above is _ROOT:
            handlers, above = _ROOT.handlers, None
        else:
            handlers = above.handlers
            above = above.parent if above.propagate else None
        if handlers:
            for handler in handlers:
                if type(handler) is not HtEventsHandler:
                    return None
                if only is None:
                    if len(handlers) > 1:
                        return None
                    only = handler
                # Our handlers further up ignore this client's records.
    if only is None or only.filters or only.formatter or only.level > INFO:
        return None
    return only


def handles_plainly(logger: Logger) -> bool:
    """Return whether `Logger.handle` is the standard library's for this logger."""
    return type(logger).handle is _HANDLE and "handle" not in logger.__dict__


def nearest_handlers(
    first: Logger, top: Logger, but: HtEventsHandler | None = None
) -> tuple[list[HtEventsHandler], bool]:
    """
    Return our handlers that a logger's records reach first, on the way up to the top.

    Without one it is those behind a queue, if the queue's handler knows them.

    Args:
        first: The logger.
        top: The last logger on the way.
        but: A handler that is left out.

    Returns:
        The handlers, and whether they get the records by themselves.
    """
    queued: list[HtEventsHandler] = []
    logger: Logger | None = first
    while logger is not None:
        found = [h for h in logger.handlers if isinstance(h, HtEventsHandler)]
        if but in found:
            found.remove(but)
        if found:
            return found, True
        if logger.handlers and not queued:
            behind = behind_queues(logger.handlers)
            queued = [h for h in behind if isinstance(h, HtEventsHandler)]
        if logger is top or not logger.propagate:
            break
        logger = logger.parent
    return queued, False
