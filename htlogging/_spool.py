"""The queue on disk: the same verbs as in memory, and no event is lost with a process."""

from __future__ import annotations

import threading
import time

from htlogging import _spool_file
from htlogging._batch import Batch
from htlogging._queue import MemoryQueue
from htlogging._settings import MAX_BODY_EVENTS
from htlogging._spool_file import SpoolUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters
    from htlogging.exceptions import DeliveryError

# Seconds between two looks for events of processes that died, and for what is too old.
LOOK_EVERY = 2.0

# Seconds for which events go by memory, once the file could not be used.
AWAY = 5.0

# Events between two looks at the size of the file, and the share that goes when it is
# too large: so much that it need not be done again at once.
SIZE_EVERY = 256
SHARE = 16


class _Owner:
    """One number's events: which were claimed, and which there are."""

    __slots__ = ("last", "next", "number", "taken")

    def __init__(self, number: int, taken: int, last: int) -> None:
        self.number = number
        self.taken = taken  # the last seq that was claimed
        self.last = last  # the last seq that is in the file
        self.next = last + 1  # the one that the next event will have


class SpoolQueue:
    """
    Events in a file, each there when `put` returns; the verbs are `MemoryQueue`'s.

    What cannot be written goes by memory, and is as safe as there. A batch that is
    settled leaves the file, or becomes a dead letter in it.

    Args:
        settings: spool, spool_sync, spool_max_bytes, spool_max_age, max_queue_size.
        report: Where it is told that events go by memory.
        counters: Where those are counted.
        evicted: Called with events that had to leave the file, and why.
    """

    durable = True
    look_every: float | None = LOOK_EVERY

    def __init__(
        self,
        settings: Settings,
        report: Report,
        counters: Counters,
        evicted: Callable[[list[bytes], str], None],
    ) -> None:
        assert settings.spool is not None
        self._file = _spool_file.shared(
            settings.spool, full_sync=settings.spool_sync == "full"
        )
        self._max_bytes = settings.spool_max_bytes
        self._max_age = settings.spool_max_age
        self._report = report
        self._counters = counters
        self._evicted = evicted
        self._memory = MemoryQueue(settings.max_queue_size)
        # Held while events are taken from the file, claimed or evicted; `put` does not
        # take it, so a caller does not wait for the sender's reading. Taken before the
        # others. Re-entrant, as all here, for the sake of signal handlers; a forked
        # child starts with a queue of its own.
        self._taking = threading.RLock()
        self._looking = threading.RLock()  # held in `look`, taken before `_taking`
        self._owners: list[_Owner] = []  # in the order in which they are served
        self._own: _Owner | None = None  # where `put` adds
        self._direct: _Owner | None = None  # where `claim_new` adds
        # Guards all below, for a few operations; taken last.
        self._lock = threading.RLock()
        self._claims: dict[tuple[int, int], Batch] = {}  # by owner and first seq
        self._released: list[Batch] = []  # of _claims, those to be claimed again
        self._gone: list[Batch] = []  # settled, but still in the file
        self._accepted = 0
        self._left = 0  # accepted, and left in the file by `abandon`
        self._settled = 0
        self._claimed = 0
        self._since_size = 0
        self._away_until = 0.0
        self._next_look = 0.0

    def __len__(self) -> int:
        """Return how many events are here and not settled."""
        return self.counts()[1]

    def put(self, event: bytes) -> int:
        """Add an event; returns as `MemoryQueue.put` does."""
        if not self._insert(event, direct=False):
            return self._memory.put(event)
        self._since_size += 1
        if self._since_size >= SIZE_EVERY:
            self._check_size()
        return self.fill() or 1

    def _insert(self, event: bytes, *, direct: bool) -> _Owner | None:
        """Write an event; `None`: it could not be, and goes by memory."""
        if time.monotonic() >= self._away_until:
            try:
                # Keeps the order of what threads write, and their numbers apart.
                with self._file.writing:
                    owner = (self._direct if direct else self._own) or self._add(direct)
                    seq = owner.next
                    # Before the write: a signal handler that logs takes the next one.
                    owner.next += 1
                    self._file.write(_INSERT, owner.number, seq, time.time(), event)
                    with self._lock:
                        owner.last = max(owner.last, seq)
                        self._accepted += 1
                    return owner
            except SpoolUnavailable as exc:
                self._stay_away(exc)
        self._counters.add("unspooled")
        return None

    def _add(self, direct: bool) -> _Owner:  # noqa: FBT001
        """Take a number for this queue's events."""
        owner = _Owner(self._file.new_owner(), 0, 0)
        if direct:
            self._direct = owner
        else:
            self._own = owner
            self._owners.append(owner)
        return owner

    def _stay_away(self, exc: SpoolUnavailable) -> None:
        self._away_until = time.monotonic() + AWAY
        self._report.unspooled(exc.reason)

    def fill(self) -> int:
        """Return how many wait, or as many as fill a request."""
        if self._released:
            return MAX_BODY_EVENTS
        waiting = self._accepted - self._settled - self._claimed
        return max(waiting, 0) + self._memory.fill()

    def claim(self, max_count: int, max_bytes: int) -> Batch | None:
        """Take the oldest events; they stay ours until `ack`, `release` or `bury`."""
        with self._taking:
            with self._lock:
                if self._released:
                    return self._released.pop(0)
            try:
                for owner in self._owners:
                    batch = self._claim(owner, max_count, max_bytes)
                    if batch is not None:
                        return batch
            except SpoolUnavailable as exc:
                self._stay_away(exc)
        return self._memory.claim(max_count, max_bytes)

    def _claim(self, owner: _Owner, max_count: int, max_bytes: int) -> Batch | None:
        last = owner.last
        if owner.taken >= last:
            return None
        seqs: list[int] = []
        events: list[bytes] = []
        with self._file.reading() as connection:
            for seq, body in connection.execute(
                f"SELECT seq, body {_LATER} ORDER BY seq LIMIT ?",
                (owner.number, owner.taken, max_count),
            ):
                max_bytes -= len(body) + 1
                if max_bytes < 0 and events:
                    break
                seqs.append(seq)
                events.append(body)
        if events:
            owner.taken = seqs[-1]
            return self._keep(Batch(events, seqs, owner.number))
        owner.taken = last
        if all(other.taken >= other.last for other in self._owners):
            # Somebody took them out of the file (`spool drop`, say): not ours any more.
            with self._lock:
                self._accepted = self._settled + self._claimed
        return None

    def _keep(self, batch: Batch) -> Batch:
        with self._lock:
            self._claims[batch.source, batch.ids[0]] = batch
            self._claimed += len(batch)
        return batch

    def claim_new(self, event: bytes) -> Batch:
        """Accept an event and claim it in one, past all others."""
        with self._file.writing:
            owner = self._insert(event, direct=True)
            if owner is not None:
                return self._keep(Batch([event], [owner.last], owner.number))
        return self._memory.claim_new(event)

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve a claimed batch; each half is settled alone."""
        if not batch.source:
            return self._memory.split(batch)
        halves = batch.halves()
        with self._lock:
            if self._claims.get((batch.source, batch.ids[0])) is batch:
                for half in halves:
                    self._claims[batch.source, half.ids[0]] = half
        return halves

    def ack(self, batch: Batch) -> bool:
        """Take delivered events out of the file; tell whether they were ours still."""
        if not batch.source:
            return self._memory.ack(batch)
        ours = self._settle(batch)
        # After `abandon` too: nobody need deliver them again.
        self._try_remove(batch, None)
        return ours

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """Make dead letters of events that were given up; returns as `ack` does."""
        if not batch.source:
            return self._memory.bury(batch, failure)
        ours = self._settle(batch)
        if ours:
            self._try_remove(batch, failure)
        return ours

    def _settle(self, batch: Batch) -> bool:
        with self._lock:
            if self._claims.get((batch.source, batch.ids[0])) is not batch:
                return False
            del self._claims[batch.source, batch.ids[0]]
            self._claimed -= len(batch)
            self._settled += len(batch)
            return True

    def _try_remove(self, batch: Batch, failure: DeliveryError | None) -> None:
        try:
            self._remove(batch, failure)
        except SpoolUnavailable as exc:
            # Settled all the same. A later look takes them out; should this process die
            # before, they are sent again, under their ids.
            self._gone.append(batch)
            self._stay_away(exc)

    def _remove(self, batch: Batch, failure: DeliveryError | None) -> None:
        these = (batch.source, batch.ids[0], batch.ids[-1])
        if failure is None:
            self._file.write(f"DELETE {_THESE}", *these)
            return
        why = (failure.status, failure.code, failure.message, failure.tries)
        with self._file.transaction() as connection:
            connection.execute(_BURY, (time.time(), *why, *these))
            connection.execute(f"DELETE {_THESE}", these)

    def release(self, batch: Batch) -> None:
        """Let the next claim have these events: they were not sent."""
        if not batch.source:
            self._memory.release(batch)
            return
        with self._lock:
            if self._claims.get((batch.source, batch.ids[0])) is batch:
                self._released.append(batch)

    def abandon(self) -> list[bytes]:
        """Leave what is in the file to whoever looks next; return the rest."""
        with self._taking, self._file.writing, self._lock:
            self._file.leave(owner.number for owner in self._served())
            self._owners, self._own, self._direct = [], None, None
            self._claims.clear()
            self._released.clear()
            self._claimed = 0
            self._next_look = 0.0
            left = self._accepted - self._settled
            # They are adopted as any others, and counted then.
            self._left, self._accepted = left, self._settled
        if left:
            self._report.stays(left)
        return self._memory.abandon()

    def counts(self) -> tuple[int, int]:
        """Return how many events there ever were, and how many are not settled."""
        accepted, queued = self._memory.counts()
        with self._lock:
            return (
                accepted + self._accepted + self._left,
                queued + self._accepted + self._left - self._settled,
            )

    def mark(self) -> tuple[dict[int, int], int]:
        """Return a mark of all events so far, for `claimed_to` and `settled_to`."""
        with self._lock:
            lasts = {owner.number: owner.last for owner in self._served()}
        return lasts, self._memory.mark()

    def claimed_to(self, mark: tuple[dict[int, int], int]) -> bool:
        """Tell whether all events up to the mark were claimed, at least."""
        lasts, in_memory = mark
        with self._lock:
            return (
                not self._released
                and all(o.taken >= lasts.get(o.number, 0) for o in list(self._owners))
                and self._memory.claimed_to(in_memory)
            )

    def settled_to(self, mark: tuple[dict[int, int], int]) -> bool:
        """Tell whether all events up to the mark were settled."""
        lasts, in_memory = mark
        with self._lock:
            return (
                self.claimed_to(mark)
                and all(first > lasts.get(number, 0) for number, first in self._claims)
                and self._memory.settled_to(in_memory)
            )

    def _served(self) -> list[_Owner]:
        return [*self._owners, *([self._direct] if self._direct else [])]

    def look(self) -> None:
        """
        Do what is due now and then; on the sending thread, or in `flush`.

        Adopts the events of processes that died, takes out those that are too old, and
        makes the file smaller.
        """
        # One at a time: `flush` shall not go on before what another adopts is counted.
        with self._looking:
            now = time.monotonic()
            if now >= max(self._next_look, self._away_until):
                self._next_look = now + LOOK_EVERY
                self._look()

    def _look(self) -> None:
        try:
            if self._file.is_gone():
                self._move_out()
            self._adopt()
            while self._gone:
                self._remove(self._gone[0], None)
                del self._gone[0]
            if self._max_age is not None:
                for owner in list(self._owners):
                    self._evict(owner, time.time() - self._max_age, 1000, "too old")
            self._file.tidy()
        except SpoolUnavailable as exc:
            self._stay_away(exc)

    def _adopt(self) -> None:
        for number in self._file.adopt():
            ((count, first, last),) = self._file.read(
                "SELECT count(*), min(seq), max(seq) FROM events WHERE owner = ?",
                number,
            )
            if count:
                with self._taking, self._lock:
                    self._left = max(self._left - count, 0)
                    self._owners.insert(0, _Owner(number, first - 1, last))
                    self._accepted += count

    def _move_out(self) -> None:
        """Take along by memory what is in a file that has no name any more."""
        self._report.unspooled("it was deleted or replaced")
        with self._taking, self._file.writing:
            events: list[bytes] = []
            for owner in self._owners:
                rows = self._file.read(
                    f"SELECT body {_LATER} ORDER BY seq", owner.number, owner.taken
                )
                events += [body for (body,) in rows]
            self._file.reopen()
            self._owners, self._own, self._direct = [], None, None
            with self._lock:
                self._accepted = self._settled + self._claimed
        lost = [event for event in events if not self._memory.put(event)]
        if lost:
            self._evicted(lost, "the spool was deleted, and memory is full")

    def _check_size(self) -> None:
        self._since_size = 0
        try:
            if self._file.size() <= self._max_bytes:
                return
            for owner in list(self._owners):
                count = max((owner.last - owner.taken) // SHARE, 1)
                if self._evict(owner, _EVER, count, "spool_max_bytes is reached"):
                    return
        except SpoolUnavailable as exc:
            self._stay_away(exc)

    def _evict(self, owner: _Owner, before: float, count: int, why: str) -> bool:
        """Take an owner's oldest events, that nobody has claimed, out of the file."""
        with self._taking:
            rows = self._file.read(
                f"SELECT seq, body {_LATER} AND at < ? ORDER BY seq LIMIT ?",
                owner.number,
                owner.taken,
                before,
                count,
            )
            if not rows:
                return False
            self._file.write(
                f"DELETE {_THESE}", owner.number, owner.taken + 1, rows[-1][0]
            )
            owner.taken = rows[-1][0]
            with self._lock:
                self._settled += len(rows)
        self._evicted([body for _, body in rows], why)
        return True


_EVER = float("inf")
_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?)"
_LATER = "FROM events WHERE owner = ? AND seq > ?"
_THESE = "FROM events WHERE owner = ? AND seq BETWEEN ? AND ?"
_BURY = (
    "INSERT INTO dead (failed_at, status, code, message, tries, at, body)"
    f" SELECT ?, ?, ?, ?, ?, at, body {_THESE}"
)
