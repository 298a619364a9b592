"""The queue on disk: the same verbs as in memory, and no event is lost with a process."""

from __future__ import annotations

from contextlib import suppress

from htlogging._process import locks
from htlogging._process.clock import clock
from htlogging._process.locks import do_within, is_mine
from htlogging._queue.claims import TOO_OLD
from htlogging._queue.memory import MemoryQueue
from htlogging._queue.scrubbing import scrubbed
from htlogging._queue.spool import lines, registry, statements
from htlogging._queue.spool.ledger import EVICTED, IN_FILE, Ledger
from htlogging._queue.spool.maintenance import Maintenance
from htlogging._queue.spool.schema import SpoolBusy, SpoolUnavailable
from htlogging._queue.spool.writer import Writer
from htlogging._settings import MAX_BODY_EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from htlogging._queue.base import Eviction, Holder
    from htlogging._queue.claims import Batch, Counts
    from htlogging._queue.spool.ledger import Mark
    from htlogging._report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters
    from htlogging.exceptions import DeliveryError

# Seconds for which `flush` and `close` wait while another thread looks.
_LONG_RUN = 10.0

# Seconds between two looks for events of processes that died, and for what is too old.
MAINTAIN_EVERY = 2.0

# Why what was in a file that was deleted is given up.
NO_ROOM = "the spool was deleted, and memory is full"


class SpoolQueue:
    """
    Events in a file, each there when `put` returns. `EventQueue` describes the methods.

    An event that cannot be written is kept in memory, and is lost with the process. A
    batch that is settled leaves the file, or becomes a dead letter in it. A batch with
    `source` 0 is of events in memory.

    Locks, in the order in which they are taken: `_maintaining`, `_taking`, the file's
    `writing`, the one for reading, the ledger's. `put` takes `writing` alone: so a signal
    handler may log at any moment.

    Args:
        settings: spool, spool_sync, spool_max_bytes, spool_max_age, max_queue_size,
            and where events go.
        report: Reports that events are kept in memory, and what was lost.
        counters: Counts the events that are kept in memory.
    """

    maintain_every: float | None = MAINTAIN_EVERY

    def __init__(self, settings: Settings, report: Report, counters: Counters) -> None:
        assert settings.spool is not None
        self._file = registry.shared(settings.spool)
        self._destination: Hashable = (settings.host, settings.write_key)
        self._registered = False
        self._file.require(
            full_sync=settings.spool_sync == "full", max_bytes=settings.spool_max_bytes
        )
        self._report = report
        self._counters = counters
        self._memory = MemoryQueue(
            settings.max_queue_size, settings.max_queue_bytes, settings.max_event_size
        )
        self._ledger = Ledger(self._file.delivered_late, settings.max_event_size)
        # Held while events are taken from the file, claimed or evicted. Re-entrant, as
        # all here; a forked child starts with a queue of its own.
        self._taking = locks.rlock()
        self._maintaining = locks.rlock()  # held in `_run`
        self._maintenance = Maintenance(
            self._file,
            self._ledger,
            self._taking,
            max_bytes=settings.spool_max_bytes,
            max_age=settings.spool_max_age,
        )
        self._writer = Writer(
            self._file, self._ledger, self._maintenance.no_writes, self._use_path
        )
        self._left = 0  # events that stay in the file, not reported yet
        self._next_run = 0.0

    def register(self) -> None:
        self._file.register(self, self._destination)
        self._registered = True

    def _use_path(self) -> None:
        if not self._registered:
            self.register()

    def put(self, event: bytes) -> int:
        if self._writer.insert(event, direct=False) is None:
            waiting = self._memory.put(event)
            if waiting:
                self._counters.add("unspooled")
            return waiting and max(waiting, self.backlog())
        self._maintenance.note_growth(len(event) + 1)
        return self.backlog() or 1

    def backlog(self) -> int:
        if self._ledger.claims.state.released:
            return MAX_BODY_EVENTS
        # A file that cannot be read now has nothing to claim.
        waiting = 0 if self._maintenance.no_reads.is_on() else self._ledger.waiting()
        return waiting + self._memory.backlog()

    def claim(
        self, max_count: int, max_bytes: int, holder: Holder | None = None
    ) -> Batch | None:
        with self._taking:
            batch = self._ledger.claims.reclaim(holder)
            if batch is None and not self._maintenance.no_reads.is_on():
                try:
                    batch = self._claim(max_count, max_bytes, holder)
                except SpoolUnavailable as exc:
                    self._maintenance.no_reads.note(exc)
        return batch or self._memory.claim(max_count, max_bytes, holder)

    def _claim(
        self, max_count: int, max_bytes: int, holder: Holder | None
    ) -> Batch | None:
        """Take events of all owners: those of dead processes do not go first."""
        ids: list[int] = []
        events: list[bytes] = []
        own = self._ledger.own
        for owner in self._ledger.owners():
            if not owner.waiting():
                continue
            share = 2 if owner is not own and own is not None and own.waiting() else 1
            count = max(max_count // share, 1) - len(ids)
            size = max_bytes // share
            size -= sum(map(len, events)) + len(events)
            if count <= 0 or (size <= 0 and events):
                continue
            last = owner.last
            found = self._file.read(
                statements.page,
                *owner.ids(),
                max_count=count,
                max_bytes=size,
                alone=not events,
            )
            if found.damaged:
                self._maintenance.set_aside(found.damaged)
            if found.is_all and not found.ids:
                self._ledger.pass_all(owner, last)
            ids += found.ids
            events += found.events
        self._maintenance.note_own()
        return self._ledger.claim(ids, events, holder) if ids else None

    def claim_new(self, event: bytes, holder: Holder | None = None) -> Batch:
        found = self._writer.insert(event, direct=True)
        if found is None:
            self._counters.add("unspooled")
            return self._memory.claim_new(event, holder)
        return self._ledger.claim([found], [event], holder)

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        return (self._ledger.claims if batch.source else self._memory).split(batch)

    def release(self, batch: Batch) -> None:
        (self._ledger.claims if batch.source else self._memory).release(batch)

    def ack(self, batch: Batch) -> bool:
        if not batch.source:
            return self._memory.ack(batch)
        ours = self._ledger.claims.settle(batch, delivered=True)
        if not ours:
            ours = self._ledger.settle_left(batch)
            # Before they are removed: who has adopted them, this queue perhaps, would
            # take them for lost.
            self._ledger.note_late(batch)
        # After `abandon` too: they need not be delivered again.
        self._maintenance.remove(batch, None)
        return ours

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        if not batch.source:
            return self._memory.bury(batch, failure)
        ours = self._ledger.claims.settle(batch, delivered=False)
        if ours and batch.source != EVICTED:
            kept = failure.code != "spool" or failure.message == TOO_OLD
            why = scrubbed(failure, batch.events) if kept else None
            self._maintenance.remove(batch, why)
        return ours

    def overdue(self, batch: Batch) -> bool:
        return batch.source == IN_FILE and self._maintenance.is_overdue(batch)

    def outlives(self, batch: Batch) -> bool:
        return batch.source == IN_FILE

    def recover(self) -> bool:
        found = self._ledger.claims.recover()
        return self._memory.recover() or found

    def has_lost(self) -> bool:
        return self._ledger.claims.has_lost() or self._memory.has_lost()

    def stops_senders(self) -> bool:
        held = (self._maintaining, self._taking, self._ledger.lock)
        return (
            self._file.is_reading_here()
            or any(map(is_mine, held))
            or self._ledger.claims.stops_senders()
            or self._memory.stops_senders()
        )

    def abandon(self) -> list[bytes]:
        # The file's events stay for the next queue that looks.
        with self._taking:
            with self._file.writing:
                # Counted first: then no queue of this process has adopted them yet.
                served, left = self._ledger.abandon()
            self._file.release_owners(served & left.keys())
            self._maintenance.drop_owners(served - left.keys())
        self._next_run = 0.0
        # Of earlier times, too, and those of processes that died.
        self._left = sum(left.values())
        return self._memory.abandon()

    def close(self) -> None:
        self.unregister()
        if not self._is_interrupting():
            # Otherwise the interrupted call still uses the file, which stays open.
            do_within(self._maintaining, _LONG_RUN, self._reopen_unused)
        self._report_lines()

    def _reopen_unused(self) -> None:
        if not self._file.is_used():
            self._file.reopen()

    def unregister(self) -> None:
        self._registered = False
        self._file.unregister(self)

    def counts(self) -> Counts:
        return self._memory.counts() + self._ledger.counts()

    def mark(self) -> tuple[Mark, int]:
        return self._ledger.mark(), self._memory.mark()

    def claimed_to(self, mark: tuple[Mark, int]) -> bool:
        return self._ledger.claimed_to(mark[0]) and self._memory.claimed_to(mark[1])

    def settled_to(self, mark: tuple[Mark, int]) -> bool:
        return self._ledger.settled_to(mark[0]) and self._memory.settled_to(mark[1])

    def maintain(self, *, at_once: bool = False) -> list[Eviction]:
        # No lock is held while lines are written.
        if self._is_interrupting():
            return []
        if at_once or self._is_due():
            # One at a time: `flush` must not go on before what another adopts is
            # counted. A sending thread need not: a signal handler may have stopped who
            # looks, and wait for it.
            wait = _LONG_RUN if at_once else 0.0
            do_within(
                self._maintaining, wait, lambda: self._run_if_due(at_once=at_once)
            )
        self._maintenance.shorten_log()
        self._report_lines()
        return self._maintenance.evictions()

    def _is_interrupting(self) -> bool:
        """
        Return whether a signal handler, say, has interrupted another call on this thread.

        Then it must not do what that call may be in the middle of, and must not wait for
        a thread that waits for that call.
        """
        return self._file.is_writing_here() or self.stops_senders()

    def _run_if_due(self, *, at_once: bool) -> None:
        if at_once or self._is_due():
            self._next_run = clock.monotonic() + MAINTAIN_EVERY
            with suppress(SpoolBusy):  # from `_move_out`
                self._run()

    def _is_due(self) -> bool:
        if clock.monotonic() >= self._next_run:
            return True
        its = self._maintenance
        damage = its.no_reads.damaged or its.no_writes.damaged
        return damage or (its.has_more and not self._ledger.adopted_waiting)

    def _run(self) -> None:
        if not self._file.is_there():
            return
        self._move_out()
        # A queue that was closed adopts nothing: the path may be another one's by now.
        self._maintenance.run(adopt=self._registered)

    def _move_out(self) -> None:
        """Move the events of a file that was deleted into memory."""
        found = self._maintenance.move_out()
        if found is None:
            return
        owners = self._ledger.owners()
        # Counted all the time: as moving ones until memory has them.
        self._ledger.move(len(found))
        self._ledger.forget()
        self._maintenance.drop_owners(owner.number for owner in owners)
        lost = [event for _, event in found if not self._memory.put(event)]
        self._ledger.moved(len(found), lost, NO_ROOM)
        self._counters.add("unspooled", len(found) - len(lost))

    def _report_lines(self) -> None:
        """Write the lines that are due."""
        lines.report_trouble(self._maintenance, self._report)
        lines.report_lost(self._ledger, self._report)
        left, self._left = self._left, 0
        if left:
            self._report.left_in_spool(left)
