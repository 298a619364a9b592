"""The queue on disk: the same verbs as in memory, and no event is lost with a process."""

from __future__ import annotations

import threading
import time

from htlogging._queue.memory import MemoryQueue
from htlogging._queue.spool import registry, statements
from htlogging._queue.spool.ledger import EVICTED, Books, Owner
from htlogging._queue.spool.maintenance import Care
from htlogging._queue.spool.schema import SpoolUnavailable
from htlogging._settings import MAX_BODY_EVENTS
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from htlogging._queue.base import Batch, Counts, Eviction, Holder
    from htlogging._queue.spool.ledger import Mark
    from htlogging._report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters
    from htlogging.exceptions import DeliveryError

# Seconds between two looks for events of processes that died, and for what is too old.
LOOK_EVERY = 2.0


class SpoolQueue:
    """
    Events in a file, each there when `put` returns; the verbs are `MemoryQueue`'s.

    What cannot be written goes by memory, and is as safe as there. A batch that is
    settled leaves the file, or becomes a dead letter in it.

    Locks, in the order in which they are taken: `_looking`, the delivery's `settled`,
    `_taking`, the file's for reading, the file's `writing`. `put` takes the last one
    alone, which nobody holds while he waits: so a signal handler may log at any moment.

    Args:
        settings: spool, spool_sync, spool_max_bytes, spool_max_age, max_queue_size,
            and where events go.
        report: Where it is told that events are kept in memory.
        counters: Where those are counted.
    """

    maintain_every: float | None = LOOK_EVERY

    def __init__(
        self,
        settings: Settings,
        report: Report,
        counters: Counters,
    ) -> None:
        assert settings.spool is not None
        self._file = registry.shared(settings.spool)
        self._destination: Hashable = (settings.host, settings.write_key)
        self._joined = False
        self._file.ask(
            full_sync=settings.spool_sync == "full", max_bytes=settings.spool_max_bytes
        )
        self._max_age = settings.spool_max_age
        self._report = report
        self._counters = counters
        self._memory = MemoryQueue(
            settings.max_queue_size, settings.max_queue_bytes, settings.max_event_size
        )
        self._books = Books()
        # Held while events are taken from the file, claimed or evicted. Re-entrant, as
        # all here; a forked child starts with a queue of its own.
        self._taking = threading.RLock()
        self._looking = threading.RLock()  # held in `look`
        self._care = Care(
            self._file,
            self._books,
            self._memory,
            counters,
            self._taking,
            (settings.spool_max_bytes, settings.spool_max_age),
        )
        # Guarded by the file's `writing`.
        self._own: Owner | None = None  # where `put` adds
        self._direct: Owner | None = None  # where `claim_new` adds
        self._next_look = 0.0

    def register(self) -> None:
        """
        Take the path for the events of this write key and host; else the first event does.

        Raises:
            InvalidSetting: Another queue of this process has it for another destination.
        """
        self._file.join(self, self._destination)
        self._joined = True

    def __len__(self) -> int:
        """Return how many events are here and not settled."""
        return self.counts().queued

    def put(self, event: bytes) -> int:
        """Add an event; returns as `MemoryQueue.put` does."""
        nested = self._file.is_writing_here()
        if self._insert(event, direct=False) is None:
            waiting = self._memory.put(event)
            if waiting:
                self._counters.add("unspooled")
            return waiting and max(waiting, self.backlog())
        if not nested:
            self._care.grown(len(event) + 1)
        return self.backlog() or 1

    def _insert(self, event: bytes, *, direct: bool) -> tuple[Owner, int] | None:
        """Write an event; `None`: it could not be, and shall go by memory."""
        if self._care.no_writes.is_on():
            return None
        try:
            if not self._joined:
                self.register()
            # Keeps the order of what threads write, and their numbers apart.
            with self._file.writing:
                owner = (self._direct if direct else self._own) or self._add(direct)
                seq, written = owner.begin(), 0
                try:
                    statements.insert(self._file, owner.number, seq, event)
                    written = seq
                finally:
                    owner.end(written)
                return owner, seq
        except (SpoolUnavailable, InvalidSetting) as exc:
            self._care.no_writes.note(exc)
        return None

    def _add(self, direct: bool) -> Owner:  # noqa: FBT001
        """Take a number for this queue's events."""
        owner = Owner(self._file.new_owner())
        if direct:
            self._direct = owner
        else:
            self._own = owner
            self._books.owners.append(owner)
        return owner

    def backlog(self) -> int:
        """Return how many wait, or as many as fill a request."""
        if self._books.has_released():
            return MAX_BODY_EVENTS
        # What cannot be read just now is not to be had.
        waiting = 0 if self._care.no_reads.is_on() else self._books.waiting()
        return waiting + self._memory.backlog()

    def claim(
        self, max_count: int, max_bytes: int, holder: Holder | None = None
    ) -> Batch | None:
        """Take the oldest events; they stay ours until `ack`, `release` or `bury`."""
        with self._taking:
            batch = self._books.reclaim(holder)
            if batch is None and not self._care.no_reads.is_on():
                try:
                    batch = self._claim(max_count, max_bytes, holder)
                except SpoolUnavailable as exc:
                    self._care.no_reads.note(exc)
        return batch or self._memory.claim(max_count, max_bytes, holder)

    def _claim(
        self, max_count: int, max_bytes: int, holder: Holder | None
    ) -> Batch | None:
        for owner in self._books.owners[:]:
            last = owner.last
            if owner.taken < last:
                seqs, events = statements.page(
                    self._file,
                    owner.number,
                    owner.taken + 1,
                    last,
                    max_count=max_count,
                    max_bytes=max_bytes,
                )
                if seqs:
                    return self._books.claim(owner, seqs, events, holder)
                self._books.skip(owner, last)
        return None

    def claim_new(self, event: bytes, holder: Holder | None = None) -> Batch:
        """Accept an event and claim it in one, past all others."""
        found = self._insert(event, direct=True)
        if found is None:
            self._counters.add("unspooled")
            return self._memory.claim_new(event, holder)
        owner, seq = found
        return self._books.claim(owner, [seq], [event], holder)

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve a claimed batch; each half is settled alone."""
        return (self._books if batch.source else self._memory).split(batch)

    def release(self, batch: Batch) -> None:
        """Let the next claim have these events: they were not sent."""
        (self._books if batch.source else self._memory).release(batch)

    def ack(self, batch: Batch) -> bool:
        """Take delivered events out of the file; tell whether they were ours still."""
        if not batch.source:
            return self._memory.ack(batch)
        ours = self._books.settle(batch, delivered=True)
        ours = ours or self._books.settle_left(batch)
        # After `abandon` too: nobody need deliver them again.
        self._care.remove(batch, None)
        return ours

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """Make dead letters of events that were given up; returns as `ack` does."""
        if not batch.source:
            return self._memory.bury(batch, failure)
        ours = self._books.settle(batch, delivered=False)
        if ours and batch.source != EVICTED:
            # What became too old while it was tried is no dead letter either.
            self._care.remove(batch, None if failure.code == "spool" else failure)
        return ours

    def overdue(self, batch: Batch) -> bool:
        """Tell whether all events of a claimed batch are too old by now."""
        if self._max_age is None or not batch.source:
            return False
        try:
            at = statements.written_at(self._file, batch.source, batch.ids[-1])
        except SpoolUnavailable:
            return False
        return at < time.time() - self._max_age

    def outlives(self, batch: Batch) -> bool:
        """Return whether these are in the file; what went by memory is not."""
        return batch.source != 0

    def recover(self) -> bool:
        """Put back what nobody works on."""
        found = self._books.recover()
        return self._memory.recover() or found

    def abandon(self) -> list[bytes]:
        """Leave what is in the file to whoever looks next; return the rest."""
        with self._taking:
            with self._file.writing:
                owners = self._books.owners[:]
                owners += [self._direct] if self._direct is not None else []
                del self._books.owners[:]
                self._forget()
            # Counted first: then nobody of this process has adopted them yet.
            left = self._books.abandon(owners)
            numbers = {owner.number for owner in owners}
            self._file.leave(numbers & left.keys())
            self._care.free(numbers - left.keys())
        self._next_look = 0.0
        # Of earlier times, too, and those of processes that died.
        self._care.left = sum(left.values())
        return self._memory.abandon()

    def close(self) -> None:
        """Come to rest: let go of the file and of its path, until the next event."""
        self.unregister()
        with self._looking:
            self._care.rest()
            if not self._file.is_used():
                self._file.reopen()
        self._care.tell(self._report)

    def unregister(self) -> None:
        """Let the path be used for another destination, until the next event."""
        self._joined = False
        self._file.part(self)

    def counts(self) -> Counts:
        """Return what became of all events."""
        return self._memory.counts() + self._books.counts()

    def mark(self) -> tuple[Mark, int]:
        """Return a mark of all events so far, for `claimed_to` and `settled_to`."""
        return self._books.mark(self._direct), self._memory.mark()

    def claimed_to(self, mark: tuple[Mark, int]) -> bool:
        """Tell whether all events up to the mark were claimed, at least."""
        return self._books.claimed_to(mark[0]) and self._memory.claimed_to(mark[1])

    def settled_to(self, mark: tuple[Mark, int]) -> bool:
        """Tell whether all events up to the mark were settled."""
        return self._books.settled_to(mark[0]) and self._memory.settled_to(mark[1])

    def maintain(self, *, at_once: bool = False) -> list[Eviction]:
        """
        Do what is due now and then; on a sending thread, or in `flush`.

        Adopts the events of processes that died, takes out those that are too old, makes
        the file smaller, and copies its log. Writes lines: no lock is held then.

        Args:
            at_once: Whether it is due, whenever it was done last.
        """
        if self._file.is_writing_here():
            return []  # in a signal handler: who looks just now may wait for our writing
        if at_once or time.monotonic() >= self._next_look:
            # One at a time: `flush` shall not go on before what another adopts is
            # counted.
            with self._looking:
                if at_once or time.monotonic() >= self._next_look:
                    self._next_look = time.monotonic() + LOOK_EVERY
                    self._look()
        self._care.shorten_log()
        self._care.tell(self._report)
        return self._care.evictions()

    def _look(self) -> None:
        if not self._file.is_there():
            return
        self._care.move_out(self._forget)
        # A queue that was closed adopts nothing: the path may be another one's by now.
        self._care.look(adopt=self._joined)

    def _forget(self) -> None:
        self._own = self._direct = None
