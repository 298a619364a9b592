"""
The event of a call: without a record if only our handler would see one, else by a record.

The record says where the call is, and so does the line about a mistake in one.
"""

from __future__ import annotations

import logging
import sys
import time
from logging import INFO
from os import getpid

from htlogging._event import builder, filter_hook, origin
from htlogging._event.bindings import current
from htlogging._event.encoder import encode
from htlogging._event.origin import Call
from htlogging._event.record import to_event
from htlogging._handler import pipeline_of
from htlogging._process import fork
from htlogging._process.interruption import is_passing
from htlogging.exceptions import InvalidEvent
from htlogging.htevents._routing import handles_plainly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

    from htlogging._handler import HtEventsHandler


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
