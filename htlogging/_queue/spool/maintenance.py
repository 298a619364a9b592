"""Regular work on a spool: make room, adopt other processes' events, repair the file."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress

from htlogging._process.locks import do_within, is_mine
from htlogging._queue.claims import TOO_OLD
from htlogging._queue.spool import statements
from htlogging._queue.spool.clock import Clock
from htlogging._queue.spool.outage import Outage
from htlogging._queue.spool.repair import Repair
from htlogging._queue.spool.schema import SpoolBusy, SpoolUnavailable
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from htlogging._queue.base import Eviction
    from htlogging._queue.claims import Batch
    from htlogging._queue.spool.database import SpoolFile
    from htlogging._queue.spool.ledger import Ledger
    from htlogging._queue.spool.owner import Owner

# Of spool_max_bytes, the share that is written between two looks at the size; at most a
# megabyte. Twice as much goes at a time when the file is too large.
SHARE = 64

# Bytes that an event takes in the log, at least: a page.
_LEAST = 4_096

# Rounds of removal when a caller finds the file too large, because it waits for them.
ROUNDS = 4

# Owners that are served at a time: each costs a read, and a lock of the system.
_MAX_ADOPTED = 2_000

# Dead letters that go at a time, megabytes that are given back when events wait, and
# when none do: 1.5 ms each.
_SOME = 1_000
_BUSY_ROUNDS, _IDLE_ROUNDS = 1, 1_024

# Why events leave the file, beside `TOO_OLD`: a DeliveryError's message.
TOO_LARGE = "spool_max_bytes is reached"

# Seconds for which a sender waits to take a settled batch out of the file.
_WAIT = 0.1


class Maintenance:
    """
    The queue's regular work, done by sending threads.

    Args:
        file: The file.
        ledger: What the queue knows.
        taking: The queue's lock for taking events from the file.
        max_bytes: spool_max_bytes.
        max_age: spool_max_age.
    """

    def __init__(
        self,
        file: SpoolFile,
        ledger: Ledger,
        taking: threading.RLock,
        *,
        max_bytes: int,
        max_age: float | None,
    ) -> None:
        self._file = file
        self._ledger = ledger
        self._taking = taking
        self._max_bytes, self._max_age = max_bytes, max_age
        self._step = min(self._max_bytes // SHARE, 2**20)
        self._grown = 0  # bytes since the last look at the size; a hint
        self._clock = None if max_age is None else file.watch_clock()
        self.no_reads = Outage()
        self.no_writes = Outage()
        self.lines: dict[str, str] = {}  # by kind, not reported yet
        self._repair = Repair(
            file,
            ledger,
            taking,
            no_reads=self.no_reads,
            no_writes=self.no_writes,
            lines=self.lines,
        )
        self.move_out = self._repair.move_out
        self.has_more = False  # owners to be adopted
        # Settled, but still in the file: ids, and why.
        self._gone: deque[tuple[Sequence[int], DeliveryError | None]] = deque()
        # The first of them, once it is counted as settled.
        self._counted: object = None

    def evictions(self) -> list[Eviction]:
        """
        Return what had to leave the file, to be given up.

        Until that is done, each call returns it: a thread may be cut short. To give it up
        twice does no harm, because it is settled once.
        """
        return [
            (batch, DeliveryError(None, "spool", why, 0))
            for batch, why in self._ledger.leaving()
        ]

    def remove(self, batch: Batch, failure: DeliveryError | None) -> None:
        """Take settled events out of the file, now or later."""
        self._gone.append((batch.ids, failure))
        # Not for long: a signal handler may have stopped the thread that writes, and
        # wait in `flush` for this batch. Then a later one takes these out as well.
        if not self.no_writes.is_on():
            remove = self._remove_gone
            do_within(self._file.writing, _WAIT, lambda: self._try(remove))

    def _remove_gone(self) -> None:
        # Should this process die before, they are sent again, under their ids.
        # Another thread may remove the same ones.
        while (first := next(iter(self._gone), None)) is not None:
            # First done, then forgotten: cut short between, it is done twice.
            ids, failure = first
            self._count_gone(first)
            if failure is None:
                self._file.change(statements.delete, ids)
            else:
                self._file.change(statements.bury, ids, failure, self._file.time())
            with suppress(IndexError, ValueError):
                self._gone.remove(first)

    def _count_gone(self, first: tuple[Sequence[int], object]) -> None:
        """Count these as settled once, however often the file refuses to remove them."""

        def count() -> None:
            # Unless another thread has removed them meanwhile.
            if self._counted is not first and first is next(iter(self._gone), None):
                self._note_settled(first[0])
                self._counted = first

        self._file.with_writing(count)

    def note_own(self) -> None:
        """Save how many events there are, for the case that the file is damaged later."""
        # With a limit, as in `remove`; the next claim does it.
        do_within(self._file.writing, _WAIT, self._note_own)

    def _note_own(self) -> None:
        own = self._ledger.own
        if own is not None:
            self._file.note(own.number, own.last, own.settled)

    def _note_settled(self, ids: Sequence[int]) -> None:
        # Before they leave the file: should this process die between, they are sent
        # again, and not taken for lost.
        # With `writing`, as in `put`, which notes the same counts.
        def note() -> None:
            for owner in self._ledger.count_settled(ids):
                self._file.note(owner.number, owner.last, owner.settled)

        self._file.with_writing(note)

    def set_aside(self, ids: Sequence[int]) -> None:
        """Keep rows that are not what was written from being sent."""
        self._ledger.lose(ids)
        self._note_settled(ids)
        self._try(lambda: self._file.change(statements.set_aside, ids))

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except SpoolUnavailable as exc:
            self.no_writes.note(exc)

    def note_growth(self, size: int) -> None:
        """Take events out, perhaps, after this many bytes; on a caller's thread."""
        self._grown += max(size, _LEAST)
        if self._grown < self._step or self._is_in_handler():
            return
        self._grown = 0
        with self._taking:
            self._try(lambda: self._shrink(ROUNDS))

    def _is_in_handler(self) -> bool:
        """Return whether a signal handler interrupted what is locked after `_taking`."""
        return (
            self._file.is_reading_here()
            or self._file.is_writing_here()
            or is_mine(self._ledger.lock)
        )

    def _shrink(self, rounds: float) -> None:
        """Remove the oldest until the file is small enough: dead letters, then events."""
        if self._file.used_bytes() <= self._max_bytes:
            return
        self._file.empty_log()
        while rounds > 0 and self._file.used_bytes() > self._max_bytes:
            rounds -= 1
            if self._file.log_bytes() > self._max_bytes // 2:
                break  # removing events would make it longer still
            if not self._file.write(statements.drop_dead, _SOME) and not any(
                self._evict(owner) for owner in self._ledger.owners()
            ):
                break
            self._file.empty_log()
        if self._file.log_bytes() > self._max_bytes // 2:
            # Another process's reading keeps it from being emptied.
            raise SpoolUnavailable(
                "spool_max_bytes is reached by SQLite's log, which another process that "
                "reads keeps from being emptied"
            )

    def _evict(self, owner: Owner) -> bool:
        """Remove an owner's oldest events that are not claimed."""
        with self._taking:
            found = self._file.read(
                statements.page, *owner.ids(), max_bytes=2 * self._step
            )
            if found.damaged:
                self.set_aside(found.damaged)
            if not found.ids:
                return bool(found.damaged)
            self._note_settled(found.ids)
            self._file.change(statements.delete, found.ids)
            self._ledger.evict(found.ids, found.events, TOO_LARGE)
        return True

    def _expire(self, max_age: float, clock: Clock) -> None:
        noted = self._file.read(statements.clock)
        now = clock.now(noted)
        if now is None:
            self.lines["clock"] = (
                f"the system's clock was set by {clock.jump:+.0f} s: no event is "
                "too old until it has been set back, or has stood for an hour"
            )
            return
        if clock.differs(noted):
            self._file.change(statements.set_clock, *clock.note, *clock.behind)
            clock.behind = ()
        for owner in self._ledger.owners():
            while self._expire_some(owner, now, max_age):
                pass
        while self._file.write(statements.drop_dead, _SOME, now - max_age):
            pass

    def _expire_some(self, owner: Owner, now: float, max_age: float) -> bool:
        with self._taking:
            found = self._file.read(
                statements.page,
                *owner.ids(),
                max_bytes=self._step,
                before=now - max_age,
            )
            if not found.ids:
                return False
            why = DeliveryError(None, "spool", TOO_OLD, 0)
            # It stays as a dead letter for a while, in case the clock was wrong.
            self._note_settled(found.ids)
            self._file.change(statements.bury, found.ids, why, now)
            self._ledger.evict(found.ids, found.events, TOO_OLD)
        return True

    def is_overdue(self, batch: Batch) -> bool:
        """Return whether all events of a claimed batch are too old by now."""
        if self._max_age is None or self._clock is None:
            return False
        try:
            at = self._file.read(statements.written_at, batch.ids[-1])
        except SpoolUnavailable:
            return False
        now = self._clock.look()
        return now is not None and at < now - self._max_age

    def run(self, *, adopt: bool) -> None:
        """
        Do what is due; called by one thread at a time.

        Args:
            adopt: Whether to take over events of others.
        """
        self._repair.run()
        try:
            self._repair.count_own()
            self.note_own()
            self._free_finished()
            if adopt:
                self._adopt()
        except SpoolUnavailable as exc:
            self.no_reads.note(exc)
        self._try(self._work)

    def _adopt(self) -> None:
        room = _MAX_ADOPTED - len(self._ledger.adopted)
        if room <= 0:
            return
        self._repair.check()
        try:
            found = self._file.adopt(room)
        except SpoolUnavailable as exc:
            if exc.broken or isinstance(exc, SpoolBusy) or not self._file.is_open():
                raise
            self.lines["locks"] = (
                f"events of processes that died stay in the spool ({exc}); those of "
                "this process are sent"
            )
            return
        self.has_more = len(found) == room
        for owner, first, last in found:
            if self._file.claim_owner(owner):
                settled = self._file.settled_of(owner)
                self._ledger.adopt(owner, first, last, settled)

    def _free_finished(self) -> None:
        """Forget owners of other processes whose events are all settled."""
        done = {
            owner.number
            for owner in self._ledger.adopted
            # Not while some are settled, but could not be taken out.
            if self._ledger.is_finished(owner)
            and self._file.read(statements.span, owner.number) is None
        }
        if done:
            self._ledger.drop(done)
            self.drop_owners(done)

    def drop_owners(self, numbers: Iterable[int]) -> None:
        """Stop serving these owners."""
        self._try(lambda: self._file.drop_owners(numbers))

    def _work(self) -> None:
        self._repair.write_rescued()
        self._remove_gone()
        if self._max_age is not None and self._clock is not None:
            self._expire(self._max_age, self._clock)
        self._shrink(math.inf)
        idle = not self._ledger.waiting()
        self._file.tidy(_IDLE_ROUNDS if idle else _BUSY_ROUNDS)
        if self._file.used_bytes() > self._max_bytes:
            self._file.empty_log()

    def shorten_log(self) -> None:
        """Copy the log into the file when it is long."""
        if self._file.log_is_long():
            self._file.checkpoint()
