"""What a spool needs now and then: room, other processes' events, a file that is there."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import suppress

from htlogging._queue.spool import statements
from htlogging._queue.spool.schema import SpoolUnavailable
from htlogging.exceptions import DeliveryError, InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from htlogging._queue.base import Batch, Eviction
    from htlogging._queue.memory import MemoryQueue
    from htlogging._queue.spool.database import SpoolFile
    from htlogging._queue.spool.ledger import Books, Owner
    from htlogging._report import Report
    from htlogging._stats import Counters

# Seconds for which the file is not tried again, once it could not be used.
AWAY = 5.0

# Of spool_max_bytes, the share that is written between two looks at the size; at most a
# megabyte. Twice as much goes at a time when the file is too large.
SHARE = 64

# How often events go when a caller finds the file too large: he waits for it.
ROUNDS = 4

# Dead letters that go at a time, megabytes that are given back when events wait, and
# when none do: 1.5 ms each.
_SOME = 1_000
_BUSY_ROUNDS, _IDLE_ROUNDS = 1, 1_024


class Away:
    """Whether a kind of use, reading or writing, makes no sense just now, and why."""

    def __init__(self) -> None:
        self._until = 0.0
        self.trouble = ""  # not yet told
        self.broken = False

    def is_on(self) -> bool:
        """Tell whether it is not to be tried."""
        return self._until > 0 and time.monotonic() < self._until

    def note(self, exc: SpoolUnavailable | InvalidSetting) -> None:
        """Note that it did not work."""
        self.trouble = str(exc)
        if isinstance(exc, SpoolUnavailable):
            self.broken |= exc.broken
            if exc.passing:
                return
        self._until = time.monotonic() + AWAY


class Care:
    """
    The queue's housekeeping.

    Args:
        file: The file.
        books: What the queue knows.
        memory: Where events go when the file is not there any more.
        counters: Where that is counted.
        taking: The queue's lock for taking events from the file.
        limits: spool_max_bytes and spool_max_age.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        file: SpoolFile,
        books: Books,
        memory: MemoryQueue,
        counters: Counters,
        taking: threading.RLock,
        limits: tuple[int, float | None],
    ) -> None:
        self._file = file
        self._books = books
        self._memory = memory
        self._counters = counters
        self._taking = taking
        self._max_bytes, self._max_age = limits
        self._step = min(self._max_bytes // SHARE, 2**20)
        self._grown = 0  # bytes since the last look at the size; a hint
        self.no_reads = Away()
        self.no_writes = Away()
        self.left = 0  # events that stay in the file, not yet told
        # Settled, but still in the file: owner, first and last number, and why.
        self._gone: deque[tuple[int, int, int, DeliveryError | None]] = deque()
        # Out of the file, not yet returned by `evictions`.
        self._evictions: deque[Eviction] = deque()

    def tell(self, report: Report) -> None:
        """Write the lines that are due."""
        for away in (self.no_writes, self.no_reads):
            trouble, away.trouble = away.trouble, ""
            if trouble:
                report.unspooled(trouble)
        left, self.left = self.left, 0
        if left:
            report.stays(left)

    def evictions(self) -> list[Eviction]:
        """Return what had to leave the file since the last time."""
        found, self._evictions = self._evictions, deque()
        return list(found)

    def _give_up(self, batch: Batch, why: str) -> None:
        failure = DeliveryError(None, "spool", why, 0)
        self._evictions.append((batch, failure))

    def remove(self, batch: Batch, failure: DeliveryError | None) -> None:
        """Take settled events out of the file, now or later."""
        ids = batch.source, batch.ids[0], batch.ids[-1]
        self._gone.append((*ids, failure))
        if not self.no_writes.is_on():
            self._try(self._remove_gone)

    def _remove_gone(self) -> None:
        # Should this process die before, they are sent again, under their ids.
        while self._gone:
            try:
                found = self._gone.popleft()
            except IndexError:  # pragma: no cover  (another thread was faster)
                return
            owner, first, last, failure = found
            try:
                if failure is None:
                    statements.delete(self._file, owner, first, last)
                else:
                    statements.bury(self._file, owner, first, last, failure)
            except BaseException:
                self._gone.appendleft(found)
                raise

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except SpoolUnavailable as exc:
            self.no_writes.note(exc)

    def grown(self, size: int) -> None:
        """Take events out, perhaps, after so many bytes came in; on a caller's thread."""
        self._grown += size
        # Not waited for: a signal handler may be here, and who has it may wait for
        # what the handler interrupted. The next event tries again.
        if self._grown >= self._step and self._taking.acquire(blocking=False):
            try:
                self._grown = 0
                self._try(lambda: self._shrink(ROUNDS))
            finally:
                self._taking.release()

    def _shrink(self, rounds: float) -> None:
        """Take out the oldest until the size is right: dead letters, then events."""
        why = "spool_max_bytes is reached"
        while rounds > 0 and self._file.size() > self._max_bytes:
            rounds -= 1
            if not statements.drop_dead(self._file, _SOME) and not any(
                self._evict(owner, why, max_bytes=2 * self._step)
                for owner in self._books.owners[:]
            ):
                return

    def _expire(self, max_age: float) -> None:
        before = time.time() - max_age
        for owner in self._books.owners[:]:
            while self._evict(owner, "too old", max_bytes=self._step, before=before):
                pass
        while statements.drop_dead(self._file, _SOME, before):
            pass

    def _evict(
        self, owner: Owner, why: str, *, max_bytes: int, before: float = math.inf
    ) -> bool:
        """Take an owner's oldest events, that nobody has claimed, out of the file."""
        with self._taking:
            first, last = owner.taken + 1, owner.last
            seqs, events = statements.page(
                self._file,
                owner.number,
                first,
                last,
                max_bytes=max_bytes,
                before=before,
            )
            if not seqs:
                return False
            statements.delete(self._file, owner.number, first, seqs[-1])
            self._give_up(self._books.evict(owner, events, seqs[-1]), why)
        return True

    def look(self, *, adopt: bool) -> None:
        """
        Do what is due; called by one thread at a time.

        Args:
            adopt: Whether to take over events of others.
        """
        if self.no_reads.broken or self.no_writes.broken:
            self.no_reads.broken = self.no_writes.broken = False
            self._file.reopen()
        try:
            if adopt:
                self._adopt()
            self._let_go()
        except SpoolUnavailable as exc:
            self.no_reads.note(exc)
        self._try(self._work)

    def _adopt(self) -> None:
        for number in self._file.adopt():
            try:
                found = statements.span(self._file, number)
            except SpoolUnavailable:
                # Ours, but not served: the next look shall find it.
                self._file.leave({number})
                raise
            if found is not None:
                self._books.adopt(number, *found)

    def _let_go(self) -> None:
        """Forget owners of other processes whose events are all settled."""
        for owner in self._books.owners[:]:
            done = owner.adopted and self._books.finished(owner)
            # Not while some are settled, but could not be taken out.
            if done and statements.span(self._file, owner.number) is None:
                self._books.owners.remove(owner)
                self.free({owner.number})

    def free(self, numbers: Iterable[int]) -> None:
        """Serve these owners no more."""
        self._try(lambda: self._file.free(numbers))

    def _work(self) -> None:
        self._remove_gone()
        if self._max_age is not None:
            self._expire(self._max_age)
        self._shrink(math.inf)
        idle = not self._books.waiting()
        self._file.tidy(_IDLE_ROUNDS if idle else _BUSY_ROUNDS)

    def shorten_log(self) -> None:
        """Copy the log into the file when it is long."""
        if self._file.log_is_long():
            self._file.checkpoint()

    def rest(self) -> None:
        """Leave the file small."""
        if self._file.is_open():
            self._try(self._work)

    def move_out(self, forget: Callable[[], None]) -> None:
        """
        Take along by memory what is in a file that has no name any more, if it is so.

        Args:
            forget: Called when no owner has events any more, with `writing` held.
        """
        if not self._file.is_gone():
            return
        self.no_writes.trouble = "it was deleted or replaced"
        events: list[bytes] = []
        with self._taking, self._file.locked():
            owners = self._books.owners[:]
            for owner in owners:
                with suppress(SpoolUnavailable):
                    bounds = owner.taken + 1, owner.last
                    events += statements.page(self._file, owner.number, *bounds)[1]
            self._file.reopen()
            forget()
            # Counted all the time: as moving ones until memory has them.
            self._books.move(len(events))
            for owner in owners:
                self._books.owners.remove(owner)
        self.free(owner.number for owner in owners)
        lost = [event for event in events if not self._memory.put(event)]
        moved = len(events) - len(lost)
        gone = self._books.moved(len(events), lost)
        self._counters.add("unspooled", moved)
        if gone is not None:
            self._give_up(gone, "the spool was deleted, and memory is full")
