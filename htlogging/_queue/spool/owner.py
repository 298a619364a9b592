"""
A series of event numbers in a spool, and how far it has been claimed.

A queue draws the numbers of its events from an owner of its own. Other queues adopt the
owners of processes that died.
"""

from __future__ import annotations

from htlogging._queue.spool.rows import id_of
from htlogging._queue.spool.schema import MAX_SEQ


class Owner:
    """
    One owner's events: those up to `taken` were claimed, those up to `last` are there.

    Each number is changed in one step. The next call corrects one that is too low: a
    `put` that was interrupted after its commit leaves `last` too low, until the next one
    finds the id taken, or the sender looks at the file.
    """

    __slots__ = ("damaged_to", "last", "number", "settled", "taken")

    def __init__(
        self, number: int, taken: int = 0, last: int = 0, settled: int = 0
    ) -> None:
        self.number = number
        self.settled = settled  # events that are delivered, or given up
        self.damaged_to = 0  # up to here, what is missing was lost with the file
        self.taken = taken  # changed by who claims or evicts
        self.last = last  # changed by who writes, with the file's `writing` held

    def waiting(self) -> int:
        """Return how many may be claimed, as far as is known."""
        return max(self.last - self.taken, 0)

    def ids(self) -> tuple[int, int]:
        """Return the first and the last id that may be claimed."""
        return id_of(self.number, self.taken + 1), id_of(self.number, self.last)

    def is_full(self) -> bool:
        """Return whether there is no number for another event."""
        return bool(self.last >= MAX_SEQ)
