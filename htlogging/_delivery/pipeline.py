"""
What stands behind a handler: a queue, a sender and a worker; how they begin and end.

The facade and the first handler import it, `import htlogging` does not: it is a third of
the import time.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import partial

from htlogging._delivery import admission
from htlogging._delivery.outcomes import Outcomes
from htlogging._delivery.worker import Worker
from htlogging._event import unhandled_events
from htlogging._process import capturing, fork, locks, shutdown
from htlogging._process.clock import clock, timeout_seconds
from htlogging._process.lines import unencrypted
from htlogging._process.loggers import idle_listener, oddities, reached_twice
from htlogging._process.threads import run_sending
from htlogging._queue.memory import MemoryQueue
from htlogging._report import Report
from htlogging._stats import Counters, Stats, figures
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from htlogging._delivery.exchange import Transport
    from htlogging._delivery.oauth import TokenSource
    from htlogging._queue.base import EventQueue
    from htlogging._queue.spool.queue import SpoolQueue
    from htlogging._settings import Settings

# Seconds after its deadline by which a closing handler has reported what is lost.
_LATER = 60.0


class Pipeline:
    """
    The way of a handler's events, from their bytes to their outcome.

    It lives as long as its handler, and begins anew in a forked child.

    Args:
        handler: Kept weakly: a thread that has nothing to send does not keep a handler
            that the application has dropped. Its `queue` is set here.
        settings: The handler's.
        is_like: Returns whether a handler sends to the place of these settings.

    Raises:
        InvalidSetting: No spool can be where the setting says, or it is used already.
    """

    queue: EventQueue
    worker: Worker

    _has_compared = False  # whether `compare` was called

    # For an event that is not simply queued; here, so that `import htlogging` is without.
    accept = admission.accept
    put_when_full = admission.put_when_full

    def __init__(
        self,
        handler: Any,
        settings: Settings,
        is_like: Callable[[Settings, logging.Handler], bool],
    ) -> None:
        self._handler = weakref.ref(handler)
        self.settings = settings
        self._is_like = is_like
        if self._has_spool():
            location, _ = _spool()
            location.check(settings.spool or "")
        # Kept here: handlers with the same credentials share it while one of them lives.
        self.tokens: TokenSource | None = None  # the key alone
        if settings.oauth_client_id is not None:
            self.tokens = _oauth().source(settings)
        if settings.redis_url is not None:
            # Before the interpreter waits for its threads: a script may end right after
            # its first event, and redis-py, which a sending thread imports, needs it.
            with suppress(RuntimeError):  # it waits already
                fork.do_whole(partial(__import__, "concurrent.futures.thread"))
        self._begin(handler)
        self.queue.register()

    def _begin(self, handler: Any) -> None:
        """Start with nothing queued, nothing counted and no thread."""
        # Guards replacing `worker`; no waiting while held. Re-entrant for signal
        # handlers. A forked child has its own.
        self._lock = locks.rlock()
        self.counters = Counters()
        self.report = Report(host=self.settings.host)
        self.rejections = admission.Rejections(self.counters, self.report)
        self.queue = self._make_queue()
        self.outcomes = Outcomes(self.settings, self.queue, self.counters, self.report)
        self.worker = self._make_worker()
        # Whether an event is sent on its caller's thread. A handler that is made in an
        # atexit hook may be too late for logging.shutdown.
        self.is_direct = self.settings.sync_mode or shutdown.is_exiting()
        # The generation of `capturing` in which events are queued unchecked; -1: none.
        self.unrestricted = -1 if self.is_direct or not self.settings.send else 0
        handler.queue = self.queue

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: events, counts and threads are the parent's."""
        self.worker.stop_sending()
        handler = self._handler()
        if handler is not None:
            self._begin(handler)

    def _has_spool(self) -> bool:
        """Return whether events go to a file: not if a test holds them back."""
        settings = self.settings
        return (
            settings.spool is not None
            and settings.send
            and not capturing.holds(settings)
        )

    def _make_queue(self) -> EventQueue:
        """Return an empty queue in memory, or the one in the spool's file."""
        settings = self.settings
        if not self._has_spool():
            return MemoryQueue(
                settings.max_queue_size,
                settings.max_queue_bytes,
                settings.max_event_size,
            )
        _, spool_queue = _spool()
        return spool_queue(settings, self.report, self.counters)

    def _make_worker(self) -> Worker:
        """Return a worker; its threads start with the first event."""
        this = weakref.ref(self)
        settings, tokens, report = self.settings, self.tokens, self.report

        def make_transport() -> Transport:
            pipeline = this()
            if pipeline is not None:
                pipeline.report_configuration()
            made: Transport = _limits().transport_within(
                settings, tokens, report, is_over
            )
            return made

        def is_over() -> bool:
            worker = found()
            return worker is None or worker.is_over

        def on_idle() -> None:
            pipeline = this()
            if pipeline is not None:
                pipeline.on_idle()

        worker = Worker(
            settings, self.queue, self.outcomes, make_transport, on_idle=on_idle
        )
        # Weak: a worker that is not used any more goes away at once.
        found = weakref.ref(worker)
        return worker

    def report_configuration(self) -> None:
        """Report mistakes in the configuration, before the first request."""
        handler = self._handler()
        if handler is None:
            return
        self.report_host()
        logger = reached_twice(handler, partial(self._is_like, self.settings))
        if logger is not None:
            self.report.duplicate(logger)
        self.report_loggers()

    def report_host(self) -> None:
        """Report a host to which the write key goes unencrypted."""
        if self.settings.is_unencrypted():
            unencrypted(self.settings.host)

    def compare(self, handlers: tuple[logging.Handler, ...], logger: str) -> None:
        """Report other handlers that send the same records to the same place, once."""
        if not self._has_compared and self.settings.send:
            self._has_compared = True
            if any(self._is_like(self.settings, other) for other in handlers[:-1]):
                self.report.duplicate(logger)

    def report_loggers(self, *, listeners: bool = False) -> None:
        """Report loggers that have dropped what was meant as an event."""
        handler = self._handler()
        if handler is None or not self.settings.send:
            return
        lines = [*oddities(handler, unhandled_events.known)]
        stats = self.stats()
        if not (stats.accepted or stats.rejected or stats.dropped):
            lines += idle_listener(handler, listeners=listeners)
        for line in lines:
            self.report.odd_logger(line)

    def on_idle(self) -> None:
        """Let the application drop the handler: nothing is queued. On a sending thread."""
        handler = self._handler()
        if handler is None or self.report.has_unreported():
            return
        shutdown.stop_keeping(handler)
        if self.queue.backlog():
            shutdown.keep_alive(handler)  # it came just now

    def stats(self) -> Stats:
        """Return the counters at this moment."""
        counts = self.queue.counts()
        return Stats(
            accepted=counts.accepted,
            delivered=counts.delivered,
            failed=counts.failed,
            queued=counts.queued,
            queued_bytes=counts.queued_bytes,
            **self.counters.snapshot(),
        )

    def wake_if_queued(self, handler: Any) -> None:
        """Wake the threads if events wait, after something has cut a call short."""
        for _ in range(2):  # the first try may lack the memory, too
            with suppress(MemoryError, RecursionError):
                if self.queue.backlog():
                    shutdown.keep_alive(handler)
                    self.worker.wake()
                return

    def flush(self, timeout: float | None) -> bool:
        """Wait as `HtEventsHandler.flush` does, and return what it returns."""
        if timeout is None and self.settings.spool is not None:
            timeout = self.settings.shutdown_timeout
        deadline = clock.monotonic() + timeout_seconds(timeout)
        self.worker.maintain_now(deadline)
        return self.worker.flush(deadline)

    def start_flush(self) -> None:
        """Start sending everything accepted so far, without waiting."""
        self.worker.start_flush()

    def stop_when_sent(self) -> None:
        """Let the threads end when all is sent, without waiting for them."""
        self.queue.unregister()
        self._exchange_worker().stop_when_sent()

    def stop(self) -> None:
        """Send what is queued, end the threads, and report what is lost."""
        worker: Worker | None = None
        done, cut = False, True
        try:
            deadline = shutdown.deadline(self.settings.shutdown_timeout)
            if shutdown.is_exiting():
                # Nothing flushes after this: a later event is sent on its caller's thread.
                self.is_direct, self.unrestricted = True, -1
                # Where no event came, no thread has looked.
                self.report_loggers()
            self.report.defer(deadline + _LATER)
            # Also in a process without events: send what dead ones left in the spool.
            self.worker.maintain_now(deadline)
            worker = self._exchange_worker()
            done = worker.stop(deadline)
            cut = False
        finally:
            if cut and not shutdown.is_exiting():
                # An exception that a signal handler raised: the threads send the rest.
                if worker is not None:
                    worker.stop_when_sent()
                self.report.report_rest()
            else:
                self._end(all_sent=done)
                if cut:
                    # logging.shutdown closes no other handler after this.
                    shutdown.give_up_others(self)

    def give_up(self) -> None:
        """Give up what is queued, and say so: the process ends at once."""
        self.worker.stop_sending()
        self._end(all_sent=False)

    def _end(self, *, all_sent: bool) -> None:
        """Give up what is left, and say so."""
        if not all_sent:
            self._abandon()
        self.queue.close()
        self.report.report_rest()
        handler = self._handler()
        if handler is not None:
            shutdown.stop_keeping(handler)
            if not shutdown.is_exiting():
                # What came meanwhile, from on_error or another thread, opens it again.
                self.wake_if_queued(handler)

    def _exchange_worker(self) -> Worker:
        """Put a new worker in place for later events, and return the old one."""
        with self._lock:
            worker, self.worker = self.worker, self._make_worker()
        return worker

    def _abandon(self) -> None:
        """Give up the events that could not be delivered in time."""
        events = self.queue.abandon()
        if events:
            outage = f"; {self.report.outage}" if self.report.outage else ""
            why = f"not delivered within shutdown_timeout{outage}"
            # As on a sending thread: an event that on_error logs is queued.
            failure = DeliveryError(None, "shutdown", why, 0)
            run_sending(self.outcomes.report_lost, events, failure)
        # A sending thread may have given others up just before.
        self.outcomes.finish()
        if shutdown.is_exiting():
            # What on_error logs comes too late, and is reported without it.
            late = self.queue.abandon()
            if late:
                figures.failed("shutdown", len(late))
                self.report.lost("failed", len(late), "made by on_error at the end")


# SQLite takes longer to import than all the rest, and few use a spool or OAuth.
@fork.late_import
def _spool() -> tuple[ModuleType, type[SpoolQueue]]:
    from htlogging._queue.spool import location
    from htlogging._queue.spool.queue import SpoolQueue

    return location, SpoolQueue


@fork.late_import
def _oauth() -> ModuleType:
    from htlogging._delivery import oauth

    return oauth


# Sending threads import it.
@fork.late_import
def _limits() -> ModuleType:
    from htlogging._delivery import limits

    return limits
