"""
How an event is accepted that is not simply queued, or is not accepted.

It is held back by a test, sent on its caller's thread, finds the queue full, or is invalid.
"""

from __future__ import annotations

import sys

from htlogging._process import capturing, shutdown
from htlogging._process.clock import clock
from htlogging._process.lines import held_back, what_is_wrong, where
from htlogging._process.threads import is_sending, runs_event_loop
from htlogging._stats import figures
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

    from htlogging._delivery.pipeline import Pipeline
    from htlogging._process.shutdown import Closable
    from htlogging._report import Report
    from htlogging._stats import Counters
    from htlogging.exceptions import InvalidEvent


def accept(pipeline: Pipeline, event: bytes, handler: Closable) -> bool | None:
    """
    Accept an event that is not to be queued; return `None` if it is.

    Raises:
        DeliveryError: With `sync_mode` only: it was not delivered.
    """
    settings, generation = pipeline.settings, capturing.generation
    if generation:
        held = capturing.holds(settings)
        if capturing.is_watched():
            capturing.show(event, held=held or not settings.send)
            generation = -1  # the next event is shown, too
        if held:
            if capturing.inherited:
                held_back(settings.host, capturing.VARIABLE)
            return True
    if not settings.send:
        return True
    if not pipeline.is_direct:
        pipeline.unrestricted = generation
    # What on_error logs is queued: sent at once it could call on_error again.
    elif not is_sending():
        _send_now(pipeline, event, handler)
        return True
    return None


def _send_now(pipeline: Pipeline, event: bytes, handler: Closable) -> None:
    """Send an event on its caller's thread."""
    settings = pipeline.settings
    seconds = settings.timeout
    if not settings.sync_mode:
        # At exit, which has a deadline of its own.
        end = shutdown.deadline(settings.shutdown_timeout)
        seconds = min(seconds, end - clock.monotonic())
    try:
        pipeline.worker.send_now(event, seconds)
    except DeliveryError:
        # At exit without sync_mode: the caller must not see errors of the network.
        if settings.sync_mode:
            raise
    finally:
        if pipeline.queue.backlog():
            # It did not get through and is in the spool now, or something has cut this
            # short: the worker sends it later.
            shutdown.keep_alive(handler)
            pipeline.worker.wake()


def put_when_full(pipeline: Pipeline, event: bytes) -> int:
    """
    Wait for room if `overflow` says so and waiting is possible; else drop the event.

    Returns:
        The backlog with the event; 0 if it was dropped, which is counted and reported.
    """
    settings, waiting = pipeline.settings, 0
    if (
        settings.overflow == "block"
        and not runs_event_loop()
        and not is_sending()  # no other thread makes room
    ):
        deadline = clock.monotonic() + settings.timeout
        waiting = pipeline.worker.put_when_room(event, deadline)
    if not waiting:
        pipeline.counters.add("dropped")
        name = _bound_met(pipeline, event)
        figures.dropped(name)
        most = getattr(settings, name)
        why = f"the queue for {settings.host} is full ({name}: {most})"
        pipeline.report.lost("dropped", 1, why)
    return waiting


def _bound_met(pipeline: Pipeline, event: bytes) -> str:
    """Return the setting that leaves no room for an event."""
    held = pipeline.queue.counts().queued_bytes + len(event)
    over = held > pipeline.settings.max_queue_bytes
    return "max_queue_bytes" if over else "max_queue_size"


class Rejections:
    """
    Counts and reports the invalid events of one handler.

    Args:
        counters: The handler's.
        report: The handler's.
    """

    def __init__(self, counters: Counters, report: Report) -> None:
        self._counters = counters
        self._report = report
        # Records that `hand_over` has counted and `handleError` has not returned for.
        self._counted: list[logging.LogRecord] = []

    def count(self, error: BaseException | None) -> None:
        """Count an event that is invalid; `error` says why."""
        self._counters.add("rejected")
        figures.rejected(error)

    def hand_over(self, record: logging.LogRecord, handler: logging.Handler) -> None:
        """Count an invalid event and hand its record to `handleError`, in an `except`."""
        self.count(sys.exc_info()[1])
        self._counted.append(record)
        try:
            handler.handleError(record)
        except RecursionError:  # pragma: no cover  (depends on the stack left)
            pass  # too little stack even for the line; the event is counted
        finally:
            self._counted.remove(record)

    def report_record(self, record: logging.LogRecord) -> None:
        """Report a record, in an `except`; count it if that has not been done."""
        error = sys.exc_info()[1]
        if not any(counted is record for counted in self._counted):
            self.count(error)
        self._report.rejected(what_is_wrong(error), where(record))

    def report_call(self, error: InvalidEvent, where: str) -> None:
        """Report an invalid event of a call; it has been counted."""
        self._report.rejected(str(error), where)
