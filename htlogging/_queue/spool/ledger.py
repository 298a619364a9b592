"""What a spool's queue knows of its events without reading the file."""

from __future__ import annotations

import time
from collections import Counter, deque

from htlogging._process import locks
from htlogging._queue.claims import Batch, ClaimTable, Counts
from htlogging._queue.spool.change import Change
from htlogging._queue.spool.owner import Owner
from htlogging._queue.spool.rows import owner_of
from htlogging._queue.spool.schema import SEQ_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from htlogging._queue.base import Holder

    Mark = dict[int, int]


# The source of batches: in the file; taken out of it; 0 is memory's.
IN_FILE, EVICTED = 1, -1

# How often a read of the counts is repeated while they change.
_LOOKS = 1_000

# Events that are kept in memory as well, for a moment; fewer if they may be large.
_RECENT, _RECENT_BYTES = 1_000, 32 * 2**20


class Leaving:
    """
    The holder of a batch that had to leave the file: it is given up, and never sent.

    If a thread is cut short, the next one gives it up.

    Args:
        why: The reason, for the report.
    """

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why

    def locked(self) -> bool:
        """Return `True`: it does not go back into the queue."""
        return True


class Ledger:
    """
    Which events wait, are claimed, settled, or were left in the file.

    The number of accepted events is the sum of these, so the counts always balance.

    Args:
        delivered_late: owner -> events that were delivered after their queue had left
            them; shared by the file's queues.
        max_event_size: The setting.
    """

    def __init__(self, delivered_late: dict[int, int], max_event_size: int) -> None:
        self.own: Owner | None = None  # where `put` adds
        self.direct: Owner | None = None  # where `claim_new` adds
        self.adopted: list[Owner] = []  # of processes that died; replaced, not changed
        self.adopted_waiting = 0  # their sum: every caller of `put` asks for it
        self.claims = ClaimTable()
        # Guards changes of all below, and of `taken`, for a few operations; nothing is
        # waited for while held. Who only reads (`counts`, `mark`, `settled_to`) takes no
        # lock: a signal handler may stop a caller there, and wait for a sending thread.
        # Re-entrant for signal handlers; a forked child has a ledger of its own.
        self.lock = locks.rlock()
        self._change = Change()  # with `lock`: what is changed must be seen as a whole
        self._evicted = 0  # batches taken out of the file
        self._moving = 0  # events taken out of the file, not yet counted elsewhere
        self._left: dict[int, int] = {}  # owner -> events left by `abandon`
        self._late = 0  # of those, and of adopted ones, delivered all the same
        self._delivered_late = delivered_late
        # The last events that were written, by id: a file that is damaged without a
        # word may take them, until they have been read from it once.
        self.recent: deque[tuple[int, bytes]] = deque(
            maxlen=min(_RECENT, _RECENT_BYTES // max_event_size)
        )
        self._lost = 0  # events that are gone, or damaged
        self._unreported = 0  # of these
        self._gone = 0  # not in the file any more, for a reason that is not known

    def serve(self, owner: Owner) -> None:
        """Have `put` add to this owner; the one before, which is full, is adopted."""
        with self.lock, self._change:
            before = self.own
            if before is not None:
                # First: at every moment it is in one of the two.
                self.adopted = [*self.adopted, before]
            self.own = owner
            self._sum_up()

    def owners(self) -> list[Owner]:
        """Return the owners whose events are claimed, the older ones first."""
        own = self.own
        return [*self.adopted, own] if own is not None else self.adopted[:]

    def _served(self) -> list[Owner]:
        direct = self.direct
        return self.owners() if direct is None else [*self.owners(), direct]

    def waiting(self) -> int:
        """Return how many may be claimed; any thread, without a lock."""
        own = self.own
        waiting = 0 if own is None else own.last - own.taken
        return max(waiting, 0) + self.adopted_waiting

    def counts(self) -> Counts:
        """Return how many are delivered, failed and queued; any thread, without a lock."""
        for _ in range(_LOOKS):
            before = self._change.count
            found = self._count()
            if not self._change.is_on and self._change.count == before:
                break
            if locks.is_mine(self.lock):
                break  # a signal handler has interrupted the change, on this thread
            time.sleep(0)  # let the thread that changes it continue
        return found

    def _count(self) -> Counts:
        state = self.claims.state
        queued = self.waiting() + self._moving + sum(self._left.values())
        return Counts(
            state.delivered + self._late,
            state.failed + self._lost,
            queued + state.claimed,
        )

    def claim(
        self, ids: Sequence[int], events: list[bytes], holder: Holder | None
    ) -> Batch:
        """Claim these events."""
        with self.lock, self._change:
            # First: cut short behind this line, they are claimed, and will be again.
            batch = self.claims.note(Batch(events, ids, IN_FILE), holder)
            self._skip(ids)
        return batch

    def evict(self, ids: Sequence[int], events: list[bytes], why: str) -> None:
        """Claim events that were removed from the file."""
        with self.lock, self._change:
            self._out(events, why)
            self._skip(ids)

    def _out(self, events: list[bytes], why: str) -> None:
        # Numbers of no owner: no mark is about them.
        self._evicted += 1
        batch = Batch(events, [self._evicted] * len(events), EVICTED)
        self.claims.note(batch, Leaving(why))

    def leaving(self) -> list[tuple[Batch, str]]:
        """Return what had to leave the file and is not settled yet, and why."""
        claims = self.claims.state.claims.values()
        return [(one, who.why) for one, who in claims if isinstance(who, Leaving)]

    def _skip(self, ids: Iterable[int]) -> None:
        """Note, for each owner, that no event up to these waits any more."""
        reached: dict[int, list[int]] = {}
        for event in ids:
            number, seq = owner_of(event)
            found = reached.setdefault(number, [0, 0])
            found[:] = max(found[0], seq), found[1] + 1
        for owner in self._served():
            if owner.number in reached:
                self._pass(owner, *reached[owner.number])
        self._sum_up()

    def _sum_up(self) -> None:
        self.adopted_waiting = sum(owner.waiting() for owner in self.adopted)

    def pass_all(self, owner: Owner, last: int) -> None:
        """Note that none of an owner's events up to a number is there."""
        with self.lock, self._change:
            self._pass(owner, last, 0)
            self._sum_up()

    def _pass(self, owner: Owner, seq: int, count: int) -> None:
        """Note that of an owner's events up to a number this many were there."""
        if seq > owner.taken:
            missing = seq - owner.taken - count
            late = min(self._delivered_late.get(owner.number, 0), missing)
            if late:
                self._delivered_late[owner.number] -= late
            # Else a command took them out: they do not count at all.
            lost = max(min(missing - late, owner.damaged_to - owner.taken), 0)
            owner.taken = seq
            owner.settled += missing
            self._late += late
            self._gone += missing - late - lost
            self._lost += lost
            self._unreported += lost

    def count_settled(self, ids: Iterable[int]) -> list[Owner]:
        """Count events of each owner as settled; return the owners."""
        counts = Counter(event >> SEQ_BITS for event in ids)
        with self.lock:
            found = [one for one in self._served() if one.number in counts]
            for owner in found:
                owner.settled += counts[owner.number]
            return found

    def lose(self, ids: Sequence[int]) -> None:
        """Note that these are in the file, but not as they were accepted."""
        with self.lock, self._change:
            self._skip(ids)
            self._lost += len(ids)
            self._unreported += len(ids)

    def note_damage(self) -> None:
        """Count as lost what turns out to be missing of all events so far."""
        with self.lock:
            for owner in self.owners():
                owner.damaged_to = owner.last

    def take_recent(self) -> list[tuple[int, bytes]]:
        """Return those of the last events that wait; they are not kept any longer."""
        with self.lock:
            recent = list(self.recent)
            self.recent.clear()
            own = self.own
            if own is None:
                return []
            first = own.ids()[0]
            return [(event, body) for event, body in recent if event >= first]

    def take_lost(self) -> tuple[int, int]:
        """Return how many were lost since the last call, and how many others are missing."""
        if not self._unreported and not self._gone:
            return 0, 0
        with self.lock:
            found = self._unreported, self._gone
            self._unreported = self._gone = 0
            return found

    def note_late(self, batch: Batch) -> None:
        """Note that events were delivered after `abandon`, for who has adopted them."""
        taken = {owner.number: owner.taken for owner in self.owners()}
        found = map(owner_of, batch.ids)
        # Those that were claimed again are counted then.
        missed = Counter(n for n, seq in found if seq > taken.get(n, 0))
        for number, count in missed.items():
            # Two threads at the same moment may lose a count: then a line says that
            # events are missing, but none is.
            before = self._delivered_late.get(number, 0)
            self._delivered_late[number] = before + count

    def settle_left(self, batch: Batch) -> bool:
        """Note that events were delivered after `abandon`; unless others have them."""
        if not self._left:
            return False
        with self.lock, self._change:
            left = self._left.copy()
            for event in batch.ids:
                number = owner_of(event)[0]
                left[number] = left.get(number, 0) - 1
                if left[number] < 0:
                    return False
            self._left = left
            self._late += len(batch)
            return True

    def move(self, count: int) -> None:
        """Note that this many were taken out; they count as queued until `moved`."""
        with self.lock, self._change:
            self._moving += count

    def moved(self, count: int, lost: list[bytes], why: str) -> None:
        """Note that these are counted elsewhere, but those without room there."""
        with self.lock, self._change:
            self._moving -= count
            if lost:
                self._out(lost, why)

    def adopt(self, number: int, first: int, last: int, settled: int) -> None:
        """Serve another owner; older ones first."""
        with self.lock, self._change:
            self._left.pop(number, None)
            found = [*self.adopted, Owner(number, first - 1, last, settled)]
            self.adopted = sorted(found, key=lambda owner: owner.number)
            self._sum_up()

    def is_finished(self, owner: Owner) -> bool:
        """Return whether an owner has no event that waits or is claimed."""
        return not owner.waiting() and not any(
            owner_of(event)[0] == owner.number for event in self.claimed_ids()
        )

    def drop(self, numbers: Iterable[int]) -> None:
        """Serve these adopted owners no more."""
        gone = set(numbers)
        with self.lock, self._change:
            self.adopted = [o for o in self.adopted if o.number not in gone]
            self._sum_up()

    def claimed_ids(self) -> list[int]:
        """Return the ids of all that is claimed and in the file."""
        claims = self.claims.state.claims.values()
        return [id_ for one, _ in claims if one.source == IN_FILE for id_ in one.ids]

    def abandon(self) -> tuple[set[int], dict[int, int]]:
        """Leave all events; return who was served, and what all owners ever left."""
        with self.lock, self._change:
            owners = self._served()
            left = {owner.number: owner.waiting() for owner in owners}
            for event in self.claimed_ids():
                number = owner_of(event)[0]
                left[number] = left.get(number, 0) + 1
            self._left = {
                number: count for number, count in (self._left | left).items() if count
            }
            self.claims.forget(IN_FILE)
            self._forget()
            return {owner.number for owner in owners}, self._left

    def forget(self) -> None:
        """Serve no owner any more."""
        with self.lock, self._change:
            self._forget()

    def _forget(self) -> None:
        self.own = self.direct = None
        self.adopted = []
        self.adopted_waiting = 0

    def mark(self) -> Mark:
        """Return a mark of all events so far, for `claimed_to` and `settled_to`."""
        return {owner.number: owner.last for owner in self._served()}

    def claimed_to(self, mark: Mark) -> bool:
        """Return whether all events up to the mark were claimed, at least; no lock."""
        return not self.claims.state.released and all(
            owner.taken >= mark.get(owner.number, 0) for owner in self.owners()
        )

    def settled_to(self, mark: Mark) -> bool:
        """Return whether all events up to the mark were settled; no lock is taken."""
        # In this order: what is claimed is noted as that before it waits no more.
        if not self.claimed_to(mark):
            return False
        found = map(owner_of, self.claimed_ids())
        return all(seq > mark.get(number, 0) for number, seq in found)
