"""
The way of a call to its event: by a record, unless only our handler would see one.

The record says where the call is, and so does the line about a mistake in one.
"""

from __future__ import annotations

import logging
import sys
import time
from logging import INFO, Filterer, Logger, LogRecord
from os import getpid

from htlogging._event import builder, filter_hook, origin, record_hook
from htlogging._event.bindings import current
from htlogging._event.encoder import encode
from htlogging._event.origin import LOGGER, Call
from htlogging._event.record import to_event
from htlogging._handler import HtEventsHandler, pipeline_of
from htlogging._process import fork
from htlogging._process.interruption import is_passing
from htlogging._process.loggers import behind_queues
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

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


def make(given: Sequence[Any], limit: int) -> tuple[dict[str, Any], bytes]:
    """
    Make an event, as a handler makes it of a record.

    Args:
        given: What the call gave, in the order of `builder.make`.
        limit: The handler's `max_event_size`.

    Returns:
        The event, and its JSON.

    Raises:
        InvalidEvent: The fields do not make an event.
    """
    if getpid() != fork.pid:
        fork.detect()
    bound = current()
    if bound:
        fields = builder.fields_of(*given)
        event = builder.build(fields, bound, None, time.time())
    else:
        event = builder.make({}, time.time(), given)
    return event, encode(event, limit, built=True)


def log(
    logger: logging.Logger,
    fields: dict[str, Any],
    handlers: list[HtEventsHandler],
    *,
    is_attached: bool,
) -> tuple[bool, Any]:
    """
    Log a call as a record, whatever the logger's level; return what became of it.

    Args:
        logger: The client's.
        fields: What the call gave.
        handlers: The client's.
        is_attached: Whether the logger's records reach these handlers by themselves.
    """
    call = Call(handlers)
    file, line, function = caller()
    kind = fields["ht_type"]
    message = fields.get("ht_event", "") if kind == "track" else kind
    record = logger.makeRecord(
        logger.name, INFO, file, line, message, (), None, function
    )
    origin.adopt(record, logger, fields, call)
    if is_attached and not logger.disabled and not handles_plainly(logger):
        logger.handle(record)
    else:
        _hand_round(logger, record, handlers, is_attached=is_attached)
    return _outcome(call, record, logger, handlers[0])


def _hand_round(
    logger: logging.Logger,
    record: logging.LogRecord,
    handlers: list[HtEventsHandler],
    *,
    is_attached: bool,
) -> None:
    """Do what `Logger.handle` does, even if the logger is disabled."""
    passed = _filter(logger, record, handlers[0])
    if not passed:
        return
    # From Python 3.12 on a filter may return another record to use instead.
    if isinstance(passed, logging.LogRecord) and passed is not record:
        filter_hook.follow(record, passed)
        record = passed
    # Before `callHandlers`: there another thread may take the record from a queue.
    if not is_attached:
        for handler in handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
    logger.callHandlers(record)


def _filter(
    logger: logging.Logger, record: logging.LogRecord, first: HtEventsHandler
) -> bool | logging.LogRecord:
    try:
        return logger.filter(record)
    except Exception as exc:
        # A filter is the application's code; its error must not reach the request.
        if is_passing(exc):
            raise
        pipeline_of(first).rejections.hand_over(record, first)
        return False


def _outcome(
    call: Call,
    record: logging.LogRecord,
    logger: logging.Logger,
    first: HtEventsHandler,
) -> tuple[bool, Any]:
    """Return what became of a call, or raise what is wrong with it."""
    if call.event is None and call.error is None:
        # A filter dropped it; a mistake of the caller is raised all the same.
        try:
            call.event = to_event(record)
        except InvalidEvent as exc:
            pipeline_of(first).rejections.count(exc)
            call.error = exc
    if isinstance(call.error, InvalidEvent):
        return refuse(call.error, first, logger)
    if call.error is not None:
        raise call.error
    return call.queued, call.event


def refuse(
    error: InvalidEvent, handler: HtEventsHandler, logger: logging.Logger
) -> tuple[bool, dict[str, Any]]:
    """Raise an invalid event's error, or report it, as the setting `on_invalid` says."""
    pipeline = pipeline_of(handler)
    if pipeline.settings.on_invalid == "raise":
        raise error
    file, line, _ = caller()
    pipeline.rejections.report_call(error, f"{logger.name!r} at {file}:{line}")
    return False, {}


def caller() -> tuple[str, int, str | None]:
    """Return who called the facade; `Logger.findCaller` knows only calls of a `Logger`."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith("htlogging.htevents"):
            return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    return "(unknown file)", 0, None
