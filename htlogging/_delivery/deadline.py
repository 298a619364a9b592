"""The time until which threads may send, and waits that end by then."""

from __future__ import annotations

import math

from htlogging._delivery.signals import Signal
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Time(Protocol):
        """How long a thread may take to send."""

        def left(self) -> float:
            """Return the seconds left; infinite without a deadline."""

        def pause(self, seconds: float) -> bool:
            """Wait, or return `False` at once if the deadline comes first."""

        def is_last(self) -> bool:
            """Return whether nothing is sent after the deadline."""


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
    A sending thread's time: until a moment of its own, or its worker's end.

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
        """Return the seconds left; infinite without a deadline."""
        return self._end() - clock.monotonic()

    def pause(self, seconds: float) -> bool:
        """Wait, or return `False` as soon as the deadline comes before the wait's end."""
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
        """Return whether nothing is sent after the deadline: the worker ends."""
        return self._ending.at is not None


class Once:
    """The time of `sync_mode`: one timeout, no waiting."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def left(self) -> float:
        """Return the whole time, which is never used up."""
        return self._seconds

    def pause(self, seconds: float) -> bool:  # noqa: ARG002
        """Do not wait: there is no other try."""
        return False

    def is_last(self) -> bool:
        """Return `True`."""
        return True
