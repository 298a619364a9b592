"""What queues and senders share: the batch."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Batch:
    """
    Events taken from a queue, to be sent in a request and settled together.

    Args:
        events: Each one's JSON, in the order accepted; not empty.
        ids: The queue's number of each.
        source: Whose numbers they are, where a queue has several kinds.
    """

    __slots__ = ("events", "ids", "source")

    def __init__(
        self, events: Sequence[bytes], ids: Sequence[int], source: int = 0
    ) -> None:
        self.events = events
        self.ids = ids
        self.source = source

    def __len__(self) -> int:
        return len(self.events)

    def halves(self) -> tuple[Batch, Batch]:
        """Return it in two, in order; it has two events or more."""
        middle = len(self.events) // 2
        return (
            Batch(self.events[:middle], self.ids[:middle], self.source),
            Batch(self.events[middle:], self.ids[middle:], self.source),
        )
