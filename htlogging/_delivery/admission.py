"""
How an event is accepted that is not simply queued.

It is held back by a test, sent on its caller's thread, or finds the queue full.
"""

from __future__ import annotations

from htlogging._process import capturing, shutdown
from htlogging._process.clock import clock
from htlogging._process.lines import held_back
from htlogging._process.threads import is_sending, runs_event_loop
from htlogging._stats import figures
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._delivery.pipeline import Pipeline
    from htlogging._process.shutdown import Closable


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
