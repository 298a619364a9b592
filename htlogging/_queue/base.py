"""
What every queue promises. A queue stands between the callers and the senders.

A queue lives in one process. `put`, `backlog`, `mark`, `claimed_to`, `settled_to`,
`has_lost` and `counts` are called on any thread, also by a signal handler or a `__del__`
that interrupts another call of the same queue. They hold no lock that a sending thread
waits for without a limit: the handler may wait for that thread. The other methods are
called by sending threads; where a caller's thread has to call one (at the end, or where no
thread can be had), `stops_senders` tells a signal handler so.

An exception from a signal handler may interrupt any call at any point. So a change is one
assignment, or the next call completes it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from htlogging.exceptions import DeliveryError

    # A batch that the queue had to remove, and the reason.
    Eviction = tuple["Batch", DeliveryError]

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


class Counts:
    """
    How many of a queue's events are delivered, failed and queued.

    Args:
        delivered: Events that were delivered.
        failed: Events that were given up.
        queued: Events that are not settled yet.
        queued_bytes: Bytes of the queued events in memory.
    """

    __slots__ = ("delivered", "failed", "queued", "queued_bytes")

    def __init__(
        self, delivered: int, failed: int, queued: int, queued_bytes: int = 0
    ) -> None:
        self.delivered = delivered
        self.failed = failed
        self.queued = queued
        self.queued_bytes = queued_bytes

    def __add__(self, other: Counts) -> Counts:
        """Return the sum of two queues' counts."""
        return Counts(
            self.delivered + other.delivered,
            self.failed + other.failed,
            self.queued + other.queued,
            self.queued_bytes + other.queued_bytes,
        )

    @property
    def accepted(self) -> int:
        """How many events were accepted."""
        return self.delivered + self.failed + self.queued


class Batch:
    """
    Events taken from a queue, to be sent in a request and settled together.

    Args:
        events: The JSON of each, in the order accepted; not empty.
        ids: The queue's number of each.
        source: Which series the numbers belong to, if a queue has several.
    """

    __slots__ = ("events", "faults", "ids", "source", "was_released")

    def __init__(
        self, events: Sequence[bytes], ids: Sequence[int], source: int = 0
    ) -> None:
        self.events = events
        self.ids = ids
        self.source = source
        self.faults = 0  # how often an error of this package interrupted sending it
        self.was_released = False  # whoever claimed it first does not send it any more

    def __len__(self) -> int:
        return len(self.events)

    def halves(self) -> tuple[Batch, Batch]:
        """Return its two halves, in order; it has two or more events."""
        middle = len(self.events) // 2
        return (
            Batch(self.events[:middle], self.ids[:middle], self.source),
            Batch(self.events[middle:], self.ids[middle:], self.source),
        )


def fitting(sizes: Iterable[int], max_bytes: float) -> int:
    """
    Return how many of the first events fit into a request; the first always does.

    Args:
        sizes: Bytes of each event.
        max_bytes: The most bytes, with a comma for each event.
    """
    count = 0
    for size in sizes:
        max_bytes -= size + 1
        if max_bytes < 0 and count:
            break
        count += 1
    return count
