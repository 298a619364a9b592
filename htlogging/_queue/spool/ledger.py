"""What a spool's queue knows of its events without looking at the file."""

from __future__ import annotations

import threading

from htlogging._queue.base import Batch, Counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from htlogging._queue.base import Holder

    Mark = dict[int, int]

# The source of batches that had to leave the file.
EVICTED = -1


class Owner:
    """
    One number's events: those up to `taken` were claimed, those up to `last` are there.

    Some between may be missing: they could not be written, or somebody took them out.
    They count as waiting until they would be claimed.
    """

    __slots__ = ("adopted", "last", "next", "number", "taken", "under_way", "written")

    def __init__(
        self, number: int, taken: int = 0, last: int = 0, *, adopted: bool = False
    ) -> None:
        self.number = number
        self.adopted = adopted  # nothing is added
        self.taken = taken  # changed by who claims or evicts
        self.last = last  # changed by who writes, with the file's `writing` held
        # For the owner that events are added to, guarded likewise.
        self.next = last + 1
        self.written = last
        self.under_way = 0  # writes: more than one where a signal handler logs

    def begin(self) -> int:
        """Return the number for an event that is to be written."""
        self.under_way += 1
        seq = self.next
        self.next += 1
        return seq

    def end(self, written: int) -> None:
        """Note that a write has ended, and the last number that it wrote, if any."""
        self.under_way -= 1
        self.written = max(self.written, written)
        if not self.under_way:
            # Not before: one with a smaller number might still come, and be passed.
            self.last = self.written


class Books:
    """
    Which events wait, are claimed, settled, or were left in the file.

    What was accepted follows from these: so it always balances.
    """

    def __init__(self) -> None:
        self.owners: list[Owner] = []  # in the order in which they are served
        # Guards all below, and changes of `taken`, for a few operations; nothing is
        # waited for while held. Re-entrant for signal handlers; a forked child has
        # books of its own.
        self.lock = threading.RLock()
        self._claims: dict[tuple[int, int], Batch] = {}  # by owner and first number
        self._claimed = 0  # events in _claims
        self._released: list[Batch] = []  # of _claims, those to be claimed again
        self._holders: dict[tuple[int, int], Holder | None] = {}  # of claims
        self._moving = 0  # out of the file, not yet counted elsewhere
        self._evicted = 0  # batches taken out of the file
        self._left: dict[int, int] = {}  # owner -> events left by `abandon`
        self._delivered = 0
        self._failed = 0

    def waiting(self) -> int:
        """Return how many may be claimed; any thread, without a lock."""
        # No `sum`, which takes twice the time: every caller comes here.
        waiting = 0
        # A copy: another thread may take an owner out.
        for owner in self.owners[:]:
            waiting += owner.last - owner.taken
        return waiting

    def has_released(self) -> bool:
        """Tell whether events were put back."""
        return bool(self._released)

    def counts(self) -> Counts:
        """Return what became of all events."""
        with self.lock:
            queued = self.waiting() + self._claimed + self._moving
            queued += sum(self._left.values())
            return Counts(self._delivered, self._failed, queued)

    def claim(
        self,
        owner: Owner,
        seqs: Sequence[int],
        events: list[bytes],
        holder: Holder | None,
    ) -> Batch:
        """Note that these were claimed."""
        batch = Batch(events, seqs, owner.number)
        with self.lock:
            owner.taken = max(owner.taken, seqs[-1])
            self._note(batch, holder)
        return batch

    def _note(self, batch: Batch, holder: Holder | None) -> None:
        self._claims[batch.source, batch.ids[0]] = batch
        self._holders[batch.source, batch.ids[0]] = holder
        self._claimed += len(batch)

    def skip(self, owner: Owner, last: int) -> None:
        """Note that there are none up to this number: somebody took them out."""
        with self.lock:
            owner.taken = max(owner.taken, last)

    def reclaim(self, holder: Holder | None) -> Batch | None:
        """Return a batch that was put back, as it was."""
        with self.lock:
            if not self._released:
                return None
            batch = self._released.pop(0)
            self._holders[batch.source, batch.ids[0]] = holder
            return batch

    def recover(self) -> bool:
        """Put back what nobody works on; return whether there was any."""
        with self.lock:
            lost = [
                batch
                for key, batch in self._claims.items()
                if (holder := self._holders.get(key)) is not None
                and not holder.locked()
                and batch not in self._released
            ]
            self._released += lost
            return bool(lost)

    def _has(self, batch: Batch) -> bool:
        return self._claims.get((batch.source, batch.ids[0])) is batch

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Put its halves in a claimed batch's place."""
        halves = batch.halves()
        with self.lock:
            if self._has(batch):
                holder = self._holders.get((batch.source, batch.ids[0]))
                for half in halves:
                    self._claims[half.source, half.ids[0]] = half
                    self._holders[half.source, half.ids[0]] = holder
        return halves

    def release(self, batch: Batch) -> None:
        """Put a batch back."""
        with self.lock:
            if self._has(batch):
                self._released.append(batch)

    def settle(self, batch: Batch, *, delivered: bool) -> bool:
        """Note that a batch is settled; tell whether it was ours still."""
        with self.lock:
            if not self._has(batch):
                return False
            del self._claims[batch.source, batch.ids[0]]
            self._holders.pop((batch.source, batch.ids[0]), None)
            self._claimed -= len(batch)
            self._delivered += len(batch) * delivered
            self._failed += len(batch) * (not delivered)
            return True

    def settle_left(self, batch: Batch) -> bool:
        """Note that events were delivered after `abandon`; unless others have them."""
        with self.lock:
            left = self._left.get(batch.source, 0)
            if left < len(batch):
                return False
            self._left[batch.source] = left - len(batch)
            self._delivered += len(batch)
            return True

    def evict(self, owner: Owner, events: list[bytes], last: int) -> Batch:
        """Note that an owner's oldest events were taken out; claim them by that."""
        with self.lock:
            owner.taken = max(owner.taken, last)
            return self._out(events)

    def _out(self, events: list[bytes]) -> Batch:
        # Numbers of no owner: nobody's mark is about them.
        self._evicted += 1
        batch = Batch(events, [self._evicted] * len(events), EVICTED)
        self._note(batch, None)
        return batch

    def move(self, count: int) -> None:
        """Note that so many were taken out; they count as queued until `moved`."""
        with self.lock:
            self._moving += count

    def moved(self, count: int, lost: list[bytes]) -> Batch | None:
        """Note that these are counted elsewhere, but those that there was no room for."""
        with self.lock:
            self._moving -= count
            return self._out(lost) if lost else None

    def adopt(self, number: int, first: int, last: int) -> None:
        """Serve another owner; elder ones first."""
        with self.lock:
            self._left.pop(number, None)
            place = sum(owner.number < number for owner in self.owners)
            self.owners.insert(place, Owner(number, first - 1, last, adopted=True))

    def finished(self, owner: Owner) -> bool:
        """Tell whether an owner has no event that waits or is claimed."""
        with self.lock:
            return owner.taken >= owner.last and not any(
                number == owner.number for number, _ in self._claims
            )

    def abandon(self, owners: list[Owner]) -> dict[int, int]:
        """Leave owners' events in the file; return how many, and of earlier times."""
        with self.lock:
            for owner in owners:
                left = owner.last - owner.taken
                left += sum(
                    len(batch)
                    for batch in self._claims.values()
                    if batch.source == owner.number
                )
                if left:
                    self._left[owner.number] = left
            for key in [key for key in self._claims if key[0] != EVICTED]:
                self._claimed -= len(self._claims.pop(key))
            self._released.clear()
            return {owner: count for owner, count in self._left.items() if count}

    def mark(self, direct: Owner | None) -> Mark:
        """Return a mark of all events so far, for `claimed_to` and `settled_to`."""
        served = self.owners[:]
        if direct is not None:
            served.append(direct)
        return {owner.number: owner.last for owner in served}

    def claimed_to(self, mark: Mark) -> bool:
        """Tell whether all events up to the mark were claimed, at least."""
        with self.lock:
            return not self._released and all(
                owner.taken >= mark.get(owner.number, 0) for owner in self.owners[:]
            )

    def settled_to(self, mark: Mark) -> bool:
        """Tell whether all events up to the mark were settled."""
        with self.lock:
            return self.claimed_to(mark) and all(
                first > mark.get(number, 0) for number, first in self._claims
            )
