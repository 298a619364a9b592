"""
Transports that limit another one: by the number of connections; to loopback, in tests.

Connections are counted so that they never take the application's descriptors. Each sending
thread has one. A process with hundreds of clients, and a server that answers slowly, would
need more than the system allows: then `open()` fails anywhere in it.
"""

from __future__ import annotations

import math
import os
import weakref

from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.waits import Signal
from htlogging._process import capturing, fork, locks
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._delivery.exchange import Answer, Transport
    from htlogging._delivery.oauth import TokenSource
    from htlogging._delivery.redis_transport import RedisTransport
    from htlogging._delivery.transport import HttpTransport
    from htlogging._report import Report
    from htlogging._settings import Settings

# The part of the limit of open files that connections may take.
SHARE = 4

# Connections that may be open at a time, at least.
LEAST = 4

# Seconds after which a thread that waits looks whether it should still send.
_LOOK = 1.0


class Limit:
    """
    How many connections this process may have open, and who has one.

    Args:
        maximum: Returns the number; asked each time: a process may change its limit.
    """

    def __init__(self, maximum: Callable[[], float]) -> None:
        self._maximum = maximum
        self.released = Signal()
        self.after_fork_in_child()
        fork.register(self)

    def after_fork_in_child(self) -> None:
        """Have no connections: they are the parent's."""
        # Weak: an object that goes away holds no connection. Changed with `_lock`, which
        # guards nothing else. Re-entrant for signal handlers.
        self._holders: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = locks.rlock()

    def maximum(self) -> float:
        """Return how many connections may be open."""
        return self._maximum()

    def acquire(self, holder: object) -> bool:
        """Count a holder's connection; return `False` if there may not be one more."""
        with self._lock:
            if holder not in self._holders:
                if len(self._holders) >= self._maximum():
                    return False
                self._holders.add(holder)
            return True

    def release(self, holder: object) -> None:
        """Count a holder's connection no more."""
        with self._lock:
            self._holders.discard(holder)
        self.released.notify_all()

    def is_scarce(self) -> bool:
        """Return whether connections must not be kept for the next request."""
        return len(self._holders) > self._maximum() / 2


def _share() -> float:
    """Return how many connections this process may have open."""
    if not hasattr(os, "sysconf"):  # Windows has no such limit
        return math.inf
    files = os.sysconf("SC_OPEN_MAX")  # the soft limit; -1: there is none
    return math.inf if files < 0 else max(files // SHARE, LEAST)


# The process's: every `Limited` counts its connection here.
limit = Limit(_share)


class Limited:
    """
    A `Transport` whose connection is one of those that the process may have.

    A request waits until there may be a connection. Half of them are kept open between
    requests. While more are in use, each is closed after its request: so no thread waits
    for one that is idle.

    Args:
        transport: The transport behind it.
        is_over: Returns whether nothing may be sent any more.
        of: Where the connection is counted.
    """

    def __init__(
        self,
        transport: Transport,
        is_over: Callable[[], bool],
        of: Limit = limit,
    ) -> None:
        self._transport = transport
        self._is_over = is_over
        self._limit = of
        self.open = transport.open
        self.body = transport.body

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        if not self._limit.acquire(self):
            timeout = self._wait(timeout)
        try:
            return self._transport.post(body, compress=compress, timeout=timeout)
        finally:
            if self._limit.is_scarce():
                self.close()

    def _wait(self, timeout: float) -> float:
        """Wait until there may be a connection more; return the seconds left."""
        # For half of the time at most. With little time left a server could still take
        # what is sent, but its answer would come too late, and it would be sent again.
        until = clock.monotonic() + timeout / 2
        waiter = self._limit.released.waiter()
        while not self._limit.acquire(self):
            left = until - clock.monotonic()
            if left <= 0 or self._is_over():
                raise Unreachable(
                    f"all {self._limit.maximum()} connections that this process may have "
                    "are in use; its limit of open files bounds them"
                )
            waiter.wait(min(left, _LOOK))
        if self._is_over():
            self._limit.release(self)
            raise Unreachable("the handler was closed")
        return until - clock.monotonic() + timeout / 2

    def close(self) -> None:
        try:
            self._transport.close()
        finally:
            self._limit.release(self)


class LoopbackOnly:
    """
    A `Transport` that is closed while a test holds events back.

    Events that were queued before, or are in a spool, wait as in an outage.

    Args:
        transport: The transport behind it.
        settings: The destination.
    """

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._settings = settings
        self.open = transport.open
        self.body = transport.body
        self.close = transport.close

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        if capturing.holds(self._settings):
            raise Unreachable("a test is running, which sends to loopback alone")
        return self._transport.post(body, compress=compress, timeout=timeout)


@fork.late_import
def _http() -> type[HttpTransport]:
    from htlogging._delivery.transport import HttpTransport

    return HttpTransport


@fork.late_import
def _redis() -> type[RedisTransport]:
    from htlogging._delivery.redis_transport import RedisTransport

    return RedisTransport


def transport_within(
    settings: Settings,
    tokens: TokenSource | None,
    report: Report,
    is_over: Callable[[], bool],
) -> Transport:
    """Return the way to where events go, for one thread, within these limits."""
    transport: Transport
    if settings.redis_url is not None:
        transport = _redis()(settings)
    else:
        transport = _http()(settings, tokens, report.try_failed)
    return LoopbackOnly(Limited(transport, is_over), settings)
