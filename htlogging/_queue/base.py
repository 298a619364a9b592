"""
The queue between who makes events and who sends them: what every queue promises.

A queue lives in one process. `put`, `backlog`, `mark`, `claimed_to`, `settled_to` and
`counts` are called on any thread, also by a signal handler or a `__del__` that
interrupts another call of the same queue; they wait for nothing but each other. All else
is called by who sends.

An exception that a signal handler raises may cut any call short, at any point. So a
change is one assignment, or whoever comes next completes it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from htlogging.exceptions import DeliveryError

    # A batch that had to leave the queue, and why.
    Eviction = tuple["Batch", DeliveryError]

    class Holder(Protocol):
        """Who works on claimed batches: a `threading.Lock`, locked for as long."""

        def locked(self) -> bool:
            """Return whether the work goes on."""

    class Claims(Protocol):
        """What becomes of a claimed batch."""

        def split(self, batch: Batch) -> tuple[Batch, Batch]:
            """Halve a batch of two events or more; each half is settled alone."""

        def ack(self, batch: Batch) -> bool:
            """
            Forget events that were delivered.

            Returns:
                Whether they were counted here: `False` after `abandon`, or when the
                batch was settled before.
            """

        def bury(self, batch: Batch, failure: DeliveryError) -> bool:
            """Forget events that were given up, or keep them apart; returns as `ack`."""

        def release(self, batch: Batch) -> None:
            """Let the next `claim` have these events, as they are: they were not sent."""

        def overdue(self, batch: Batch) -> bool:
            """Return whether all events of the batch are too old to be sent."""

        def outlives(self, batch: Batch) -> bool:
            """
            Return whether the events survive this process.

            Such events are tried until an outage ends, however often; what is left at
            the end of the process is released, not given up.
            """

    class EventQueue(Claims, Protocol):
        """Events that were accepted, until they are settled."""

        # Seconds between two calls of `maintain`; `None`: it is not needed.
        maintain_every: float | None

        def register(self) -> None:
            """
            Take the queue's place for events of this destination.

            Called when the handler is made. A queue that was unregistered registers
            itself with its next event.

            Raises:
                InvalidSetting: Another queue of this process has the place for
                    another destination.
            """

        def unregister(self) -> None:
            """Let the place be used for another destination, until the next event."""

        def put(self, event: bytes) -> int:
            """
            Accept an event. When this returns it is stored, as safely as it will be.

            Returns:
                The backlog with it, 1 or more. 0: there is no room; nothing was added.
            """

        def backlog(self) -> int:
            """
            Return how many events wait to be claimed, as far as filling a request goes.

            MAX_BODY_EVENTS when they fill one by their bytes, or when some were
            released. 0: nothing can be claimed.
            """

        def claim(
            self, max_count: int, max_bytes: int, holder: Holder | None = None
        ) -> Batch | None:
            """
            Take the oldest events; they stay in the queue until they are settled.

            A batch that was released comes again as it was.

            Args:
                max_count: Events at most, >= 1.
                max_bytes: Bytes at most, a comma for each event included. A larger
                    event comes alone.
                holder: Once it is unlocked, `recover` releases the batch. `None`: never.

            Returns:
                Events in the order accepted; `None`: there are none to be had now.
            """

        def claim_new(self, event: bytes, holder: Holder | None = None) -> Batch:
            """
            Accept an event and claim it in one step, past all others and any bound.

            No mark includes it. It is counted as accepted.
            """

        def recover(self) -> bool:
            """Release what is claimed and nobody works on; return whether there was."""

        def abandon(self) -> Sequence[bytes]:
            """
            Give up every event that does not outlive the process, claimed ones too.

            They are counted as failed. What outlives the process stays in the queue.
            """

        def maintain(self, *, at_once: bool = False) -> list[Eviction]:
            """
            Do what is due now and then: adopt others' events, make room, drop what is old.

            Args:
                at_once: Do it now, whenever it was done last.

            Returns:
                What had to leave. Each batch is claimed; the caller gives it up.
            """

        def mark(self) -> Any:
            """Return a mark of all events so far, for the next two."""

        def claimed_to(self, mark: Any) -> bool:
            """Return whether all events before the mark were claimed; none released."""

        def settled_to(self, mark: Any) -> bool:
            """Return whether all events before the mark were settled."""

        def counts(self) -> Counts:
            """Return what became of all events, at this moment."""

        def close(self) -> None:
            """Let go of files and connections, until the next event."""


class Counts:
    """
    What became of a queue's events.

    Args:
        delivered: Events that were delivered.
        failed: Events that were given up.
        queued: Events that are not settled.
        queued_bytes: Of the queued ones in memory; 0 for what is on disk or elsewhere.
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
        """How many events there ever were."""
        return self.delivered + self.failed + self.queued


class Batch:
    """
    Events taken from a queue, to be sent in a request and settled together.

    Args:
        events: Each one's JSON, in the order accepted; not empty.
        ids: The queue's number of each.
        source: Whose numbers they are, where a queue has several kinds.
    """

    __slots__ = ("events", "faults", "ids", "source")

    def __init__(
        self, events: Sequence[bytes], ids: Sequence[int], source: int = 0
    ) -> None:
        self.events = events
        self.ids = ids
        self.source = source
        self.faults = 0  # how often sending it ended by a fault of ours

    def __len__(self) -> int:
        return len(self.events)

    def halves(self) -> tuple[Batch, Batch]:
        """Return it in two, in order; it has two events or more."""
        middle = len(self.events) // 2
        return (
            Batch(self.events[:middle], self.ids[:middle], self.source),
            Batch(self.events[middle:], self.ids[middle:], self.source),
        )


def fitting(sizes: Iterable[int], max_bytes: float) -> int:
    """
    Return how many of the first events fit into a request; the first one always does.

    Args:
        sizes: Bytes of each event.
        max_bytes: Bytes at most, a comma for each event included.
    """
    count = 0
    for size in sizes:
        max_bytes -= size + 1
        if max_bytes < 0 and count:
            break
        count += 1
    return count
