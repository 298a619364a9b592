"""Whether events get through: `htlogging.health()`, for a health check of the application."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from htlogging._handler import HtEventsHandler, pipeline_of
from htlogging._process import capturing, fork
from htlogging._process.clock import clock
from htlogging._process.shutdown import living

if TYPE_CHECKING:
    from htlogging._report import Report
    from htlogging._settings import Settings

Status = Literal["ok", "degraded", "failing"]

# Seconds of an outage after which events are at stake: they wait in memory, and their
# retries end after 76 s on average. A spool holds them.
OUTAGE_SECONDS = 60.0

# Seconds after which a loss counts no more, if later events got through.
LOSS_SECONDS = 300.0

# The share of a queue's bounds at which it counts as almost full.
_ALMOST = 0.8

# Refusals of one event, which say nothing about others.
_OF_ONE = ("HTTP 400 ", "HTTP 413 ", "HTTP 422 ")

_ORDER = ("ok", "degraded", "failing")


class Health(NamedTuple):
    """
    How delivery is at this moment.

    `ok`: events get through, or there are none. `degraded`: they wait, or some were lost in
    the last five minutes. `failing`: they are being lost, or soon will be.
    """

    status: Status
    reason: str


def health() -> Health:
    """
    Return how delivery is at this moment: the worst of all handlers and clients.

    It asks nothing of the network and takes microseconds. Invalid events do not count.

    Returns:
        The status, and a sentence about its cause with the host, without a secret.
    """
    fork.detect()
    found = [
        _of(handler)
        for handler in living()
        if isinstance(handler, HtEventsHandler)
        and (settings := pipeline_of(handler).settings).send
        and not capturing.holds(settings)
    ]
    if not found:
        return Health("ok", "no handler sends events in this process")
    return max(found, key=lambda each: _ORDER.index(each.status))


def _of(handler: HtEventsHandler) -> Health:
    pipeline = pipeline_of(handler)
    queued, full = handler.stats.queued, _fullness(handler)
    return assess(pipeline.settings, pipeline.report, queued, full, clock.monotonic())


def assess(
    settings: Settings, report: Report, queued: int, full: float, now: float
) -> Health:
    """
    Return the health of one handler.

    Args:
        settings: The handler's.
        report: What it has reported.
        queued: How many events wait.
        full: The share of the queue's bounds that is used.
        now: Monotonic seconds, by the clock of the report.
    """
    host = settings.host
    loss = report.loss
    out = report.outage_seconds()
    waiting = f"{queued} event{' waits' if queued == 1 else 's wait'}"
    if loss is not None and loss[0] >= report.last_answer and not _is_of_one(loss):
        return Health("failing", f"events are lost ({loss[1]}): {loss[2]}")
    if out > OUTAGE_SECONDS and settings.spool is None:
        why = f"nothing has got through to {host} for {out:.0f} s ({report.outage})"
        return Health("failing", f"{why}; {waiting}")
    if out:
        why = f"events do not get through to {host} ({report.outage})"
        return Health("degraded", f"{why}; {waiting}")
    if loss is not None and now - loss[0] < LOSS_SECONDS:
        ago = f"{now - loss[0]:.0f} s ago"
        return Health("degraded", f"events were lost {ago} ({loss[1]}): {loss[2]}")
    spool_failure = report.spool_failure
    if spool_failure is not None and now - spool_failure[0] < LOSS_SECONDS:
        why = f"the spool cannot be used ({spool_failure[1]})"
        return Health("degraded", f"{why}; events for {host} are kept in memory")
    if full >= _ALMOST:
        return Health("degraded", f"the queue for {host} is {full:.0%} full; {waiting}")
    if report.last_answer == -math.inf:
        return Health("ok", f"no request to {host} has been answered yet; {waiting}")
    return Health("ok", f"events get through to {host}; {waiting}")


def _is_of_one(loss: tuple[float, str, str]) -> bool:
    return loss[2].startswith(_OF_ONE)


def _fullness(handler: HtEventsHandler) -> float:
    """Return the share of a memory queue's bounds that is used."""
    settings, counts = pipeline_of(handler).settings, handler.queue.counts()
    by_bytes = counts.queued_bytes / settings.max_queue_bytes
    if settings.spool is not None:
        return by_bytes  # what is in the file is bounded by that
    return max(counts.queued / settings.max_queue_size, by_bytes)
