"""
What a handler delivers with: a queue, a sender, and the worker with its transports.

The facade and the first handler import it, `import htlogging` does not: it is a third of
the import time.
"""

from __future__ import annotations

import weakref

from htlogging._delivery.gate import Gate
from htlogging._delivery.limited import Limited
from htlogging._delivery.sender import Delivery
from htlogging._delivery.worker import Worker
from htlogging._loggers.duplicates import reached_twice
from htlogging._loggers.placement import oddities
from htlogging._process import fork, logging_lock
from htlogging._queue.memory import MemoryQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._delivery.exchange import Transport
    from htlogging._delivery.oauth import TokenSource
    from htlogging._queue.base import EventQueue
    from htlogging._report.report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters

__all__ = ["Delivery", "make_queue", "make_worker", "oddities", "reached_twice"]


def make_queue(
    settings: Settings, report: Report, counters: Counters, *, in_file: bool
) -> EventQueue:
    """Return an empty queue in memory, or the one in the spool's file."""
    if not in_file:
        return MemoryQueue(
            settings.max_queue_size, settings.max_queue_bytes, settings.max_event_size
        )
    # Late: SQLite takes longer to import than all the rest, and few use a spool.
    with logging_lock.late_import():
        from htlogging._queue.spool.queue import SpoolQueue
    return SpoolQueue(settings, report, counters)


def make_worker(
    settings: Settings,
    tokens: TokenSource | None,
    delivery: Delivery,
    queue: EventQueue,
    callbacks: tuple[Callable[[], None], Callable[[], None]],
) -> Worker:
    """
    Return a worker; its threads start with the first event.

    Args:
        settings: The handler's.
        tokens: Gives OAuth tokens; `None`: the key alone.
        delivery: Sends the batches.
        queue: Where they are claimed.
        callbacks: Called on a sending thread: before it makes its transport, and when it
            has had nothing to send for a while.
    """
    before, rested = callbacks

    def is_over() -> bool:
        found = reference()
        return found is None or found.is_over

    def make_transport() -> Transport:
        before()
        return Gate(Limited(_transport(settings, tokens), is_over), settings)

    worker = Worker(settings, queue, delivery, make_transport, rested)
    # Weak: a worker that nobody holds goes away at once.
    reference = weakref.ref(worker)
    return worker


def _transport(settings: Settings, tokens: TokenSource | None) -> Transport:
    """Return the way to where events go."""
    # Late, because it imports `requests` or `redis`: only a sending thread does that.
    with fork.importing:
        if settings.redis_url is not None:
            from htlogging._delivery.redis_transport import RedisTransport

            return RedisTransport(settings)
        from htlogging._delivery.transport import HttpTransport

        return HttpTransport(settings, tokens)
