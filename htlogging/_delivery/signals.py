"""How threads wait for each other: each on its own, with no lock held."""

from __future__ import annotations

import queue
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds of one wait at most: whoever waits looks whether things are as they seem.
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
    """A change that every thread which waits for it is told of."""

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
