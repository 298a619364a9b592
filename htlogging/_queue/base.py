"""
What every queue promises. A queue stands between the callers and the senders.

A queue lives in one process. `put`, `backlog`, `mark`, `claimed_to`, `settled_to`,
`has_lost` and `counts` are called on any thread, also by a signal handler or a `__del__`
that interrupts another call of the same queue. They hold no lock that a sending thread
waits for without a limit: the handler may wait for that thread. The other methods are
called by sending threads; where a caller's thread has to call one (at the end, or where no
thread can be started), a signal handler learns that from `stops_senders`.

An exception from a signal handler may interrupt any call at any point. So a change is one
assignment, or the next call completes it.

This is for type checkers: nothing imports it at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from htlogging._queue.claims import Batch, Counts
from htlogging.exceptions import DeliveryError

# A batch that the queue had to remove, and the reason.
Eviction = tuple[Batch, DeliveryError]


class Holder(Protocol):
    """The worker on a claimed batch: a `threading.Lock` that it holds meanwhile."""

    def locked(self) -> bool:
        """Return whether the work still goes on."""


class Claims(Protocol):
    """What a sender does with a claimed batch."""

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve a batch of two or more events; each half is settled on its own."""

    def ack(self, batch: Batch) -> bool:
        """
        Remove delivered events.

        Returns:
            Whether they were counted now; `False` after `abandon`, or if the batch
            was settled before.
        """

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """Remove events that were given up, or keep them apart; return as `ack` does."""

    def release(self, batch: Batch) -> None:
        """Give events back that were not sent; the next `claim` takes them again."""

    def overdue(self, batch: Batch) -> bool:
        """Return whether all events of the batch are too old to be sent."""

    def outlives(self, batch: Batch) -> bool:
        """
        Return whether the events survive this process.

        Such events are tried again until an outage ends, however often. At the end
        of the process they are released, not given up.
        """


class EventQueue(Claims, Protocol):
    """Events that were accepted, until they are settled."""

    # Seconds between two calls of `maintain`; `None` if it is not needed.
    maintain_every: float | None

    def register(self) -> None:
        """
        Reserve the queue's storage for this destination.

        Called when the handler is made. After `unregister` the next event
        registers the queue again.

        Raises:
            InvalidSetting: Another queue of this process uses the storage for
                another destination.
        """

    def unregister(self) -> None:
        """Free the storage for another destination, until the next event."""

    def put(self, event: bytes) -> int:
        """
        Accept an event. When this returns, the event is stored.

        Returns:
            The backlog with it, 1 or more; 0 if there was no room and nothing was
            added.
        """

    def backlog(self) -> int:
        """
        Return how many events wait to be claimed.

        It is MAX_BODY_EVENTS if they fill a request by their bytes, or if some were
        released; 0 if nothing can be claimed.
        """

    def claim(
        self, max_count: int, max_bytes: int, holder: Holder | None = None
    ) -> Batch | None:
        """
        Take the oldest events; they stay in the queue until they are settled.

        A batch that was released is returned again as it was.

        Args:
            max_count: The most events, >= 1.
            max_bytes: The most bytes, with a comma for each event. A larger event
                is returned alone.
            holder: Once it is unlocked, `recover` releases the batch; `None`: never.

        Returns:
            Events in the order accepted; `None` if none can be taken now.
        """

    def claim_new(self, event: bytes, holder: Holder | None = None) -> Batch:
        """
        Accept an event and claim it in one step, before all others, without a bound.

        It is counted as accepted, and no mark includes it.
        """

    def recover(self) -> bool:
        """Release claimed batches without a worker; return whether there were any."""

    def has_lost(self) -> bool:
        """Return whether there are claimed batches without a worker; takes no lock."""

    def stops_senders(self) -> bool:
        """
        Return whether this thread holds a lock that sending threads wait for.

        Then a signal handler has interrupted another call on this thread, and must
        not wait for them.
        """

    def abandon(self) -> Sequence[bytes]:
        """
        Give up all events that do not outlive the process, claimed ones too.

        They are counted as failed. Other events stay in the queue.
        """

    def maintain(self, *, at_once: bool = False) -> list[Eviction]:
        """
        Do regular work: adopt events of dead processes, make room, remove old events.

        Args:
            at_once: Do it now, even if it was done a moment ago.

        Returns:
            The events that were removed, as claimed batches. The caller gives them
            up.
        """

    def mark(self) -> Any:
        """Return a mark after all events so far, for the next two methods."""

    def claimed_to(self, mark: Any) -> bool:
        """Return whether all events before the mark are claimed or settled."""

    def settled_to(self, mark: Any) -> bool:
        """Return whether all events before the mark were settled."""

    def counts(self) -> Counts:
        """Return how many events are delivered, failed and queued, at one moment."""

    def close(self) -> None:
        """Close files and connections, until the next event."""
