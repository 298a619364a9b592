"""
A transport that never takes the application's descriptors: connections are counted.

Each sending thread has a connection. A process with hundreds of clients, and a server that
answers slowly, would need more than the system allows: then `open()` fails anywhere in it.
"""

from __future__ import annotations

import math
import weakref
from contextlib import suppress

from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.waits import Signal
from htlogging._process import fork, locks
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._delivery.exchange import Answer, Transport

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
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if files == resource.RLIM_INFINITY else max(files // SHARE, LEAST)


def _unlimited() -> float:
    return math.inf


# The process's: every `Limited` counts its connection here.
limit = Limit(_unlimited)
with suppress(ImportError):  # Windows has no such limit
    import resource

    limit = Limit(_share)


class Limited:
    """
    A `Transport` whose connection is one of those that the process may have.

    A request waits until there may be a connection. Half of them are kept open between requests. While more are in use, each is closed
    after its request: so no thread waits for one that is idle.

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
