"""How threads wait: for each other, each on its own and with no lock held; until when."""

from __future__ import annotations

import math
import queue
import weakref

from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Time(Protocol):
        """How long a thread may take to send."""

        def left(self) -> float:
            """Return the seconds left; infinite without a deadline."""

        def pause(self, seconds: float) -> bool:
            """Wait; return `False` as soon as the deadline comes before the wait's end."""

        def is_last(self) -> bool:
            """Return whether nothing is sent after the deadline."""


# More events than a queue can hold: callers need not wake a thread.
NEVER = 2**62

# The most seconds of one wait; then the thread looks again at what it waits for.
LONGEST = 3_600.0


class Waiter:
    """
    One thread's place to wait; made by `Signal.waiter`.

    `SimpleQueue` is re-entrant, and a wait on it that a signal handler ends by an
    exception leaves nothing behind (gh-58634); a `Condition` has a lock to take back.
    """

    def __init__(self) -> None:
        # Looked up here: gevent may have replaced it since this module was imported.
        self._calls: Any = queue.SimpleQueue()

    def notify(self) -> None:
        """End the wait, or the next one."""
        if self._calls.empty():
            self._calls.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until called; return whether that came within this time."""
        try:
            self._calls.get(timeout=max(min(seconds, LONGEST), 0.0))
        except queue.Empty:
            return False
        return True


class Signal:
    """A change that wakes every thread which waits for it."""

    def __init__(self) -> None:
        # Weak: a thread that was interrupted has left its place. Each operation on the
        # list is atomic.
        self._places: list[weakref.ref[Waiter]] = []

    def waiter(self) -> Waiter:
        """Return a place to wait. Look at what is waited for after this, not before."""
        waiter = Waiter()
        # A built-in function: a signal handler's exception would be lost in one of ours.
        self._places.append(weakref.ref(waiter, self._places.remove))
        return waiter

    def notify_all(self) -> None:
        """End the waits of all threads that wait now."""
        for place in self._places[:]:
            waiter = place()
            if waiter is not None:
                waiter.notify()


class Ending:
    """Whether a worker ends, and by when. Any thread may set it; its threads obey."""

    def __init__(self) -> None:
        self.at: float | None = None  # monotonic seconds; infinite: when all is sent
        self.changed = Signal()

    def set(self, at: float) -> None:
        """End the worker by this time; nothing is sent after it."""
        self.at = at
        self.changed.notify_all()


class Deadline:
    """
    A sending thread's `Time`: until a moment of its own, or its worker's end.

    Args:
        ending: The worker's.
        at: Monotonic seconds of its own.
        meanwhile: Called now and then during a pause.
        every: Seconds between two such calls; `None`: once.
    """

    def __init__(
        self,
        ending: Ending,
        at: float = math.inf,
        meanwhile: Callable[[], object] | None = None,
        every: float | None = None,
    ) -> None:
        self._ending = ending
        self._at = at
        self._meanwhile = meanwhile
        self._every = every

    def _end(self) -> float:
        end = self._ending.at
        return self._at if end is None else min(end, self._at)

    def left(self) -> float:
        return self._end() - clock.monotonic()

    def pause(self, seconds: float) -> bool:
        until = clock.monotonic() + seconds
        waiter = self._ending.changed.waiter()
        while until <= self._end():
            left = until - clock.monotonic()
            if left <= 0:
                return True
            if self._meanwhile is not None:
                self._meanwhile()
            if until <= self._end():
                waiter.wait(min(left, self._every or left))
        return False

    def is_last(self) -> bool:
        return self._ending.at is not None


class Once:
    """The `Time` of `sync_mode`: one timeout, which is never used up, and no other try."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def left(self) -> float:
        return self._seconds

    def pause(self, seconds: float) -> bool:  # noqa: ARG002
        return False

    def is_last(self) -> bool:
        return True
