"""The bounded queue in memory."""

from __future__ import annotations

import threading
from collections import deque

from htlogging._queue.base import Batch
from htlogging._settings import MAX_BODY_BYTES, MAX_BODY_EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging.exceptions import DeliveryError

# Bytes of an event that count towards a full body before there are many events.
_HEAVY = 4_096


class MemoryQueue:
    """
    Events as bytes, first in, first out.

    `put` takes no lock while there is room to spare: appending to a deque is atomic,
    and safe in a signal handler or a `__del__` that interrupts another `put`.

    Args:
        max_size: Events at most, those claimed and not yet settled included.
    """

    # Whether events outlive the process, and seconds between two calls of `look`.
    durable = False
    look_every: float | None = None

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        # Below this many, `put` need not be exact. While a claim is under way, its
        # events are counted neither as waiting nor as claimed.
        self._ample = max_size - 2 * MAX_BODY_EVENTS
        self._waiting: deque[bytes] = deque()
        # Bytes of heavy events since the last claim. A hint: threads may lose each
        # other's additions, and then age makes the batch go.
        self._heavy = 0
        # Guards all below and taking from _waiting; no I/O and no logging while held.
        # Re-entrant for the sake of signal handlers. A forked child starts with a
        # queue of its own: these events are its parent's.
        self._lock = threading.RLock()
        self._taken = 0  # events ever claimed, which is the next one's number
        self._direct = 0  # events ever claimed by `claim_new`
        self._claims: dict[int, Batch] = {}  # not settled, by the first event's number
        self._claimed = 0  # events in _claims
        self._released: deque[Batch] = deque()  # of _claims, those to be claimed again

    def __len__(self) -> int:
        """Return how many events are here and not settled."""
        with self._lock:
            return len(self._waiting) + self._claimed

    def put(self, event: bytes) -> int:
        """
        Add an event.

        Returns:
            How many wait now, as far as filling a request goes: so few events, or as
            many as fit when they are heavy. 0: the queue is full, nothing was added.
        """
        if len(self._waiting) + self._claimed < self._ample:
            self._waiting.append(event)
        else:
            with self._lock:
                if len(self._waiting) + self._claimed >= self._max_size:
                    return 0
                self._waiting.append(event)
        if len(event) > _HEAVY:
            self._heavy += len(event)
        if self._released or self._heavy >= MAX_BODY_BYTES:  # as in `fill`
            return MAX_BODY_EVENTS
        # It may have been claimed by now: then none waits, but the queue is not full.
        return len(self._waiting) or 1

    def fill(self) -> int:
        """Return what `put` returned last; 0: nothing waits."""
        if self._released or self._heavy >= MAX_BODY_BYTES:
            return MAX_BODY_EVENTS
        return len(self._waiting)

    def claim(self, max_count: int, max_bytes: int) -> Batch | None:
        """
        Take the oldest events; they stay ours until `ack`, `release` or `bury`.

        A batch that was released comes again as it was.

        Args:
            max_count: Events at most, >= 1.
            max_bytes: Bytes at most, a comma for each event included. A larger event
                comes alone.

        Returns:
            Events in the order accepted, or `None` when there are none.
        """
        events: list[bytes] = []
        waiting = self._waiting
        with self._lock:
            if self._released:
                return self._released.popleft()
            while waiting and len(events) < max_count:
                size = len(waiting[0])
                max_bytes -= size + 1
                if max_bytes < 0 and events:
                    break
                if size > _HEAVY:
                    self._heavy -= size
                events.append(waiting.popleft())
            if not waiting:
                self._heavy = 0
            if not events:
                return None
            first = self._taken
            self._taken += len(events)
            return self._keep(Batch(events, range(first, self._taken)))

    def claim_new(self, event: bytes) -> Batch:
        """Accept an event and claim it in one, past all others: to send it at once."""
        with self._lock:
            self._direct += 1
            # Below zero: the numbers of those that wait stay what they are, and nobody
            # waits for this one but its caller.
            return self._keep(Batch([event], [-self._direct]))

    def _keep(self, batch: Batch) -> Batch:
        self._claimed += len(batch)
        self._claims[batch.ids[0]] = batch
        return batch

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve a claimed batch, of two events or more; each half is settled alone."""
        halves = batch.halves()
        with self._lock:
            if self._claims.get(batch.ids[0]) is batch:
                self._claims.update((half.ids[0], half) for half in halves)
        return halves

    def ack(self, batch: Batch) -> bool:
        """
        Forget events that were delivered.

        Returns:
            Whether they were ours still: `False` after `abandon`.
        """
        with self._lock:
            if self._claims.get(batch.ids[0]) is not batch:
                return False
            del self._claims[batch.ids[0]]
            self._claimed -= len(batch)
            return True

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:  # noqa: ARG002
        """Forget events that were given up; returns as `ack` does."""
        return self.ack(batch)

    def release(self, batch: Batch) -> None:
        """Let the next claim have these events: they were not sent."""
        with self._lock:
            if self._claims.get(batch.ids[0]) is batch:
                self._released.append(batch)

    def abandon(self) -> list[bytes]:
        """Take out all events, claimed ones too: nobody will settle them any more."""
        with self._lock:
            events = [
                event for batch in self._claims.values() for event in batch.events
            ]
            self._claims.clear()
            self._released.clear()
            self._claimed = 0
            while self._waiting:
                events.append(self._waiting.popleft())
                self._taken += 1
        return events

    def counts(self) -> tuple[int, int]:
        """Return how many events there ever were, and how many are not settled."""
        with self._lock:
            waiting = len(self._waiting)
            return self._taken + self._direct + waiting, self._claimed + waiting

    def mark(self) -> int:
        """Return the number that the next event to be put will have."""
        with self._lock:
            return self._taken + len(self._waiting)

    def claimed_to(self, number: int) -> bool:
        """Tell whether all events before this number were claimed, at least."""
        return self._taken >= number and not self._released

    def settled_to(self, number: int) -> bool:
        """Tell whether all events before this number were settled."""
        with self._lock:
            return self._taken >= number and not any(
                0 <= n < number for n in self._claims
            )

    def look(self, *, at_once: bool = False) -> None:
        """Do nothing: what is here comes from this process alone."""

    def join(self) -> None:
        """Do nothing: nobody else uses it."""

    def retire(self) -> None:
        """Do nothing: nobody else uses it."""

    def evicted(self, count: int) -> None:
        """Do nothing: no event leaves but by `claim` and `abandon`."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
