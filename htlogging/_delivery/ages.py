"""How long the oldest event has waited, measured by marks of the queue."""

from __future__ import annotations

from htlogging._process import locks
from htlogging._process.clock import clock
from htlogging._process.locks import do_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Marked(Protocol):
        """What a queue says of the events so far."""

        def mark(self) -> Any:
            """Return a mark after all events so far."""

        def settled_to(self, mark: Any) -> bool:
            """Return whether all events before the mark were settled."""


# Seconds between two marks.
_APART = 1.0

# Seconds for which a sending thread waits to take one; then it takes none.
_WAIT = 0.1

# The most marks that are kept; then every second one goes.
_MOST = 128


class Ages:
    """
    The age of a queue's oldest event.

    Events carry no time of their own: callers would pay for it. So sending threads take a
    mark when they claim a batch, and readers when they ask. An event is as old as the
    first mark after it, so the age is too low by the time up to that mark: mostly less
    than `upload_interval`, in an outage at most the time between two reads.

    Args:
        queue: The queue.
    """

    def __init__(self, queue: Marked) -> None:
        self._queue = queue
        # The time and the mark, the oldest first; replaced as a whole.
        self._marks: tuple[tuple[float, Any], ...] = ()
        # Guards replacing `_marks`; sending threads and readers take it, callers do not.
        # Re-entrant for signal handlers. A forked child has another worker.
        self._lock = locks.rlock()

    def sample(self) -> None:
        """Take a mark, unless one was taken a moment ago."""
        marks, now = self._marks, clock.monotonic()
        if marks and now - marks[-1][0] < _APART:
            return
        mark = self._queue.mark()
        # With a limit: a signal handler that has stopped a reader may wait for this.
        do_within(self._lock, _WAIT, lambda: self._add(now, mark))

    def _add(self, now: float, mark: Any) -> None:
        kept = self._unsettled()
        if len(kept) >= _MOST:
            kept = kept[::2]
        self._marks = (*kept, (now, mark))

    def oldest(self, queued: int) -> float:
        """
        Return the seconds that the oldest event has waited; 0 without one.

        Args:
            queued: How many events are not settled.
        """
        if not queued:
            self._marks = ()
            return 0.0
        with self._lock:
            self._marks = self._unsettled()
            if not self._marks:
                self._marks = ((clock.monotonic(), self._queue.mark()),)
            marks = self._marks
        self.sample()
        return max(clock.monotonic() - marks[0][0], 0.0)

    def _unsettled(self) -> tuple[tuple[float, Any], ...]:
        marks, first = self._marks, 0
        while first < len(marks) and self._queue.settled_to(marks[first][1]):
            first += 1
        return marks[first:]
