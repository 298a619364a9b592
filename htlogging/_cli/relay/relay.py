"""A relay: threads that send what is in the stream, until they are told to stop."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing, suppress
from secrets import token_hex

from htlogging._delivery.outcomes import Outcomes
from htlogging._delivery.redis_transport import why
from htlogging._delivery.retry import wait
from htlogging._delivery.sender import Sender
from htlogging._delivery.transport import HttpTransport
from htlogging._delivery.waits import Deadline, Ending
from htlogging._process.clock import clock
from htlogging._process.threads import own_thread
from htlogging._queue.redis.relay_queue import RelayQueue
from htlogging._report import Report
from htlogging._settings import MAX_BODY_EVENTS
from htlogging._stats import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._settings import Settings
    from htlogging._settings.redis_location import Location

# Seconds between two looks into a stream that was empty.
_IDLE = 0.1
# Seconds between two removals of dead relays' names, and for how many intervals of
# `take_over` such a relay must have been silent.
_TIDY = 60.0
_GONE_AFTER = 10


class Relay:
    """
    Sends the entries of a stream.

    Args:
        settings: Where to send, and how; `thread` says with how many threads.
        location: Where the stream is.
        take_over: Seconds without a sign of life after which another relay counts as dead.
    """

    def __init__(
        self, settings: Settings, location: Location, *, take_over: float
    ) -> None:
        self._settings = settings
        self._take_over = take_over
        self.location = location
        name = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        self._queue = RelayQueue(
            location,
            name,
            timeout=settings.timeout,
            take_over=take_over,
            settled=self._count,
        )
        self.report = Report(host=settings.host)
        self._outcomes = Outcomes(settings, self._queue, Counters(), self.report)
        # Set once, by `stop`. Not a `threading.Event`: `stop` is called by a signal
        # handler, and the main thread, which it interrupts, may hold the event's lock.
        self._ending = Ending()
        self._time = _UntilStopped(self._ending)
        # Guards the counts: the sending threads count, the health endpoint reads.
        self._lock = threading.Lock()
        self.delivered = 0
        self.buried = 0
        self.trouble = ""  # why Redis cannot be used now

    def _count(self, delivered: int, buried: int) -> None:
        with self._lock:
            self.delivered += delivered
            self.buried += buried

    def stop(self) -> None:
        """Finish what is under way within `shutdown_timeout`; claim nothing more."""
        if not self._time.is_last():
            self._ending.set(clock.monotonic() + self._settings.shutdown_timeout)

    def run(self) -> None:
        """Send until `stop`; what was not finished then stays in the stream."""
        threads = [
            own_thread(self._send, f"relay-{n}") for n in range(self._settings.thread)
        ]
        for thread in threads:
            thread.start()
        tidied = clock.monotonic()
        while self._time.pause(min(self._take_over / 3, 10.0)):
            with suppress(Exception):  # the sending threads report an outage of Redis
                self._queue.show_life()
                if clock.monotonic() - tidied >= _TIDY:
                    tidied = clock.monotonic()
                    silent = max(self._take_over * _GONE_AFTER, _TIDY)
                    self._queue.remove_dead_consumers(silent)
        for thread in threads:
            thread.join(max(self._time.left(), 0.0) + 0.1)
        with suppress(Exception):  # Redis is away: other relays wait a little longer
            self._queue.leave()
        self._queue.close()
        self.report.report_rest()

    def _send(self) -> None:
        """Send batch after batch; a thread's life."""
        failures = 0
        transport = HttpTransport(self._settings)
        with closing(Sender(self._outcomes, transport)) as sender:
            while not self._time.is_last():
                try:
                    batch = self._queue.claim(MAX_BODY_EVENTS, sender.room)
                except Exception as exc:  # noqa: BLE001
                    # Redis is away, or the stream was deleted: the thread must live.
                    failures += 1
                    self._queue.forget_group()
                    self._report(self._where(exc))
                    self._time.pause(wait(failures, None, lambda: 1.0))
                    continue
                failures = 0
                self._report("")
                if batch is None:
                    self._time.pause(_IDLE)
                    continue
                try:
                    sender.deliver(batch, self._time)
                except Exception as exc:  # noqa: BLE001
                    # An error of this package: others must not wait for it.
                    self.report.on_error_raised(exc)
                    self._time.pause(1.0)

    def _where(self, exc: Exception) -> str:
        text, place = why(exc, self.location), str(self.location)
        return text if place in text else f"{text} at {place}"

    def _report(self, trouble: str) -> None:
        """Report that Redis cannot be used, once, and that it can again."""
        with self._lock:
            before, self.trouble = self.trouble, trouble
        if trouble and not before:
            self.report.try_failed(trouble)
        elif before and not trouble:
            self.report.answered()


class _UntilStopped(Deadline):
    """
    A relay's time: without an end until it stops, then until its deadline.

    One object for all threads: it holds nothing that changes.
    """

    def pause(self, seconds: float) -> bool:
        """Wait, or return `False` at once when it stops: another relay sends the rest."""
        waiter = self._ending.changed.waiter()
        return self._ending.at is None and not waiter.wait(seconds)
