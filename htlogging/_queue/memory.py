"""The bounded queue in memory."""

from __future__ import annotations

import itertools
import time
from collections import deque
from itertools import islice

from htlogging._process import locks
from htlogging._process.locks import do_anyway
from htlogging._queue.claims import Batch, ClaimTable, Counts, State, fitting
from htlogging._settings import (
    DEFAULTS,
    MAX_BODY_BYTES,
    MAX_BODY_EVENTS,
    MAX_EVENT_LIMIT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from htlogging._queue.base import Eviction, Holder
    from htlogging.exceptions import DeliveryError

# Bytes. Larger events can fill a body before there are many of them.
_HEAVY = 4_096

# Events that other threads may be adding at this moment. With less room than this left, the
# bound is checked exactly.
_UNSEEN = 64

# Seconds for which a caller waits to check the bounds exactly; then its event may pass
# them.
_LONG = 1.0

# How often a read of the queue is repeated while a batch is being taken from it.
_LOOKS = 1_000


class MemoryQueue(ClaimTable):
    """
    Events as bytes, first in, first out. `EventQueue` describes the methods.

    `put` takes no lock while there is plenty of room: appending to a deque is atomic, and
    safe in a signal handler or a `__del__` that interrupts another `put`. The number of an
    event follows from its place in the line.

    Args:
        max_size: The most events, those that are claimed and not settled included.
        max_bytes: The most bytes of these events. An empty queue accepts any event.
        max_event: The most bytes of one event.
    """

    maintain_every: float | None = None

    def __init__(
        self,
        max_size: int,
        max_bytes: int = DEFAULTS["max_queue_bytes"],
        max_event: int = MAX_EVENT_LIMIT,
    ) -> None:
        super().__init__()
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._max_event = max_event
        self._line: deque[bytes] = deque()  # events that wait
        # Events before these numbers can be added without checking the bounds, and without
        # checking the bytes.
        self._light = max_bytes // max_event - _UNSEEN
        self._easy = min(max_size - 2 * MAX_BODY_EVENTS, self._light)
        self._measured = (0, 0)  # events' number, and all bytes put before it
        # Bytes of large events since the last claim. A hint: threads may overwrite each
        # other's additions, and then the batch is sent when it is old enough.
        self._heavy = 0
        self._direct = itertools.count(1)
        # Held by those who check the bounds exactly; no I/O and no logging while held.
        # Re-entrant for signal handlers. It is waited for with a limit: a signal handler
        # that has stopped its owner may wait for this thread.
        self._measuring = locks.rlock()

    def __len__(self) -> int:
        """Return how many events are not settled."""
        state, waiting = self._now()
        return waiting + state.claimed

    def put(self, event: bytes) -> int:
        line = self._line
        if self.state.taken + len(line) < self._easy:
            line.append(event)
        elif not self._put_exactly(event):
            return 0
        if len(event) > _HEAVY:
            self._heavy += len(event)
        if self._heavy >= MAX_BODY_BYTES or self.state.released:  # as in `backlog`
            return MAX_BODY_EVENTS
        # If the event has been claimed by now, none waits; but the queue is not full.
        return len(line) or 1

    def _put_exactly(self, event: bytes) -> bool:
        """Add an event if there is room, and note how many more surely fit."""
        return do_anyway(self._measuring, _LONG, lambda: self._put_measured(event))

    def _put_measured(self, event: bytes) -> bool:
        state, waiting = self._now()
        count = waiting + state.claimed
        number = state.taken + waiting
        if count >= self._max_size:
            return False
        if number >= self._light:
            room = self._max_bytes - self._bytes() - len(event)
            if room < 0 and count:
                return False
            self._light = number + room // self._max_event - _UNSEEN
        self._line.append(event)
        sure = self._max_size - count - 2 * MAX_BODY_EVENTS
        self._easy = min(number + sure, self._light)
        return True

    def _bytes(self) -> int:
        """
        Return the bytes of all unsettled events; each event is measured once.

        Any thread may ask, sending ones too, so there is no lock: two threads may
        measure the same events.
        """
        while True:
            state, waiting = self._now()
            until, total = self._measured
            if until < state.taken:
                until, total = state.taken, state.taken_bytes
            new = state.taken + waiting - until
            # One step for the interpreter: no thread adds an event meanwhile.
            found = _first(reversed(self._line), max(new, 0))
            if self._now() == (state, waiting) or state.leaving is not None:
                break
        total += sum(map(len, found))
        self._measured = until + len(found), total
        return total - state.taken_bytes + state.claimed_bytes

    def _now(self) -> tuple[State, int]:
        """Return the state and how many events wait, at one moment."""
        for _ in range(_LOOKS):
            state = self.state
            waiting = len(self._line)
            if state.leaving is None and self.state is state:
                return state, waiting
            if locks.is_mine(self._changing):
                break  # a signal handler has interrupted the claim, on this thread
            time.sleep(0)  # let the thread that claims continue
        state = self.state
        return state, len(self._line) - self._left_of(state.leaving)

    def backlog(self) -> int:
        if self._heavy >= MAX_BODY_BYTES or self.state.released:
            return MAX_BODY_EVENTS
        return len(self._line)

    def claim(
        self, max_count: int, max_bytes: int, holder: Holder | None = None
    ) -> Batch | None:
        with self._changing:
            self._remove_claimed()
            if (again := self.reclaim(holder)) is not None:
                return again
            events = _first(self._line, max_count)
            del events[fitting(map(len, events), max_bytes) :]
            if not events:
                self._heavy = 0
                return None
            state = self.state
            batch = Batch(events, range(state.taken, state.taken + len(events)))
            self.note(
                batch,
                holder,
                taken=state.taken + len(events),
                taken_bytes=state.taken_bytes + sum(map(len, events)),
                leaving=batch,
            )
            self._remove_claimed()
            self._heavy -= sum(size for size in map(len, events) if size > _HEAVY)
            if not self._line:
                self._heavy = 0
            return batch

    def _remove_claimed(self) -> None:
        """Remove from the line the events that the last claim has noted."""
        with self._changing:
            leaving = self.state.leaving
            if leaving is None:
                return
            left = self._left_of(leaving)
            deque(islice(iter(self._line.popleft, None), left), maxlen=0)
            self.state = self.state.but(leaving=None)

    def _left_of(self, leaving: Batch | None) -> int:
        """Return how many events of a noted claim are still in the line."""
        line = self._line
        if leaving is None or not line:
            return 0
        # All of them, unless an exception has interrupted removing them. Each event is an
        # object of its own, so the first one in the line shows where it was interrupted.
        first = line[0]
        for done, event in enumerate(leaving.events):
            if event is first:
                return len(leaving) - done
        return 0

    def claim_new(self, event: bytes, holder: Holder | None = None) -> Batch:
        # Negative numbers: those of the waiting events stay as they are, and only the
        # caller waits for this event.
        return self.note(Batch([event], [-next(self._direct)]), holder)

    def ack(self, batch: Batch) -> bool:
        return self.settle(batch, delivered=True)

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:  # noqa: ARG002
        return self.settle(batch, delivered=False)

    def abandon(self) -> list[bytes]:
        mine = locks.lock()
        with mine, self._changing:
            while self.claim(len(self._line) or 1, 2**62, mine) is not None:
                pass
            return [event for batch in self.drop() for event in batch.events]

    def overdue(self, batch: Batch) -> bool:  # noqa: ARG002
        return False

    def outlives(self, batch: Batch) -> bool:  # noqa: ARG002
        return False

    def counts(self) -> Counts:
        state, waiting = self._now()
        queued = waiting + state.claimed
        size = self._bytes() if queued else 0
        return Counts(state.delivered, state.failed, queued, size)

    def mark(self) -> int:
        state, waiting = self._now()
        return state.taken + waiting

    def claimed_to(self, mark: int) -> bool:
        state = self.state
        return state.taken >= mark and not state.released

    def settled_to(self, mark: int) -> bool:
        return self.state.taken >= mark and not self.has_before(mark)

    def maintain(self, *, at_once: bool = False) -> list[Eviction]:  # noqa: ARG002
        return []

    def register(self) -> None:
        """Do nothing: a queue in memory has no other user."""

    def unregister(self) -> None:
        """Do nothing: a queue in memory has no other user."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _first(events: Iterable[bytes], count: int) -> list[bytes]:
    while True:
        try:
            return list(islice(events, count))
        except RuntimeError:  # noqa: PERF203  # pragma: no cover  (a `__del__` has put an event)
            continue
