"""A spool's file that is damaged, deleted or replaced: made good, by the sending thread."""

from __future__ import annotations

import time
from contextlib import suppress

from htlogging._queue.spool import pragmas, salvage, statements
from htlogging._queue.spool.rows import row_for
from htlogging._queue.spool.schema import SpoolUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    import threading
    from collections.abc import Callable, Sequence

    from htlogging._queue.spool.database import SpoolFile
    from htlogging._queue.spool.ledger import Ledger
    from htlogging._queue.spool.outage import Outage
    from htlogging._queue.spool.owner import Owner
    from htlogging._queue.spool.rows import Row


class Repair:
    """
    What is done when the file does not hold what was written to it.

    Args:
        file: The file.
        ledger: What the queue knows.
        taking: The queue's lock for taking events from the file.
        no_reads: Whether it cannot be read, and why.
        no_writes: Whether it cannot be written.
        lines: Lines that are not reported yet, by kind.
    """

    def __init__(  # noqa: PLR0913
        self,
        file: SpoolFile,
        ledger: Ledger,
        taking: threading.RLock,
        *,
        no_reads: Outage,
        no_writes: Outage,
        lines: dict[str, str],
    ) -> None:
        self._file = file
        self._ledger = ledger
        self._taking = taking
        self.no_reads, self.no_writes = no_reads, no_writes
        self.lines = lines
        self._rescued: list[Row] = []  # read from a file, to be written into the next
        self._was_checked = False  # the structure of the file that is open

    def run(self) -> None:
        """Repair what was found since the last time."""
        if self.no_reads.damaged or self.no_writes.damaged:
            why = self.no_reads.trouble or self.no_writes.trouble
            try:
                self._salvage(why or "damaged")
            except SpoolUnavailable as exc:
                self.no_writes.note(exc)
        elif self.no_reads.broken or self.no_writes.broken:
            self.no_reads.broken = self.no_writes.broken = False
            self._reopen()
        if self._file.was_taken_away:
            self._file.was_taken_away = False
            self.lines["taken away"] = (
                "the spool's file was deleted or emptied since it was last used; what "
                "waited in it is lost"
            )

    def _reopen(self) -> None:
        """Open the file anew, after an error of the disk, say; keep what we can read."""
        with self._taking, self._file.writing:
            rows = [row for owner in self._ledger.owners() for row in self._rows(owner)]
            self._file.reopen()
            self._was_checked = False
            self._ledger.note_damage()
            # SQLite may have begun its log anew, without what was last in it.
            self._put_back(rows)

    def _salvage(self, why: str) -> None:
        """Put a new file in the damaged one's place, with what can be read."""

        def exchange(readers: Sequence[sqlite3.Connection]) -> salvage.Found:
            return salvage.salvage(self._file.path, readers)

        with self._taking:
            found = self._file.exchange(exchange)
            self._was_checked = False
            self.no_reads.end()
            self.no_writes.end()
            # The one line says all; not that it could not be used, too.
            self.no_reads.trouble = self.no_writes.trouble = ""
            self.lines["damaged"] = f"the spool was damaged ({why}): {found}"
            self._ledger.note_damage()
            self._put_back([])

    def _put_back(self, rows: list[Row]) -> None:
        """Write rows into the file, and the last events, where they are not there."""
        now = time.time()
        self._rescued += rows
        self._rescued += [
            row_for(event, now, body) for event, body in self._ledger.take_recent()
        ]
        self._try(self.write_rescued)

    def write_rescued(self) -> None:
        """Write what was read from a damaged file, if that is not done yet."""
        # Kept until it is done: this file may be damaged, too.
        if self._rescued:
            self._file.change(statements.add_all, "events", self._rescued)
            self._rescued = []

    def count_own(self) -> None:
        """Look at what is really there: a `put` may have been cut short."""
        own = self._ledger.own
        if own is not None and self._file.is_open():
            recent = len(self._ledger.recent)
            found = self._file.read(statements.last_of, own.number)
            own.last = max(own.last, found)
            self._verify(recent)

    def _verify(self, count: int) -> None:
        """Forget those of the last events that can be read from the file."""
        recent = self._ledger.recent
        with suppress(IndexError):
            first, last = recent[0][0], recent[count - 1][0]
            self._file.read(statements.rows_between, first, last)
            while recent[0][0] <= last:
                recent.popleft()

    def check(self) -> None:
        """Look for damage; the process that wrote the file may have died with the disk."""
        if not self._was_checked:
            if self._file.read(statements.next_owner, 0) is not None and (
                complaint := self._file.read(pragmas.complaints)
            ):
                raise SpoolUnavailable(complaint, damaged=True)
            self._was_checked = True
        with suppress(SpoolUnavailable):
            if lost := self._file.count_lost():
                self.lines["lost"] = (
                    f"at least {lost} events of processes that died are lost: the spool "
                    "was damaged, or what was written last did not reach the disk"
                )

    def move_out(self) -> list[tuple[int, bytes]] | None:
        """
        Leave a file that was deleted or renamed.

        Where there is a new file, put there by another process that found ours damaged,
        our events go there.

        Returns:
            Our waiting events, by id, which memory has to take; `None`: none have to.
        """
        if not self._file.is_gone():
            return None
        rows: list[Row] = []
        with self._taking, self._file.writing:
            for owner in self._ledger.owners():
                rows += self._rows(owner)
            is_replaced = self._file.has_another()
            self._try(self._file.leave_behind)
            self._was_checked = False
            if is_replaced:
                claimed = self._ledger.claimed_ids()
                with suppress(SpoolUnavailable):
                    self._file.change(_move, rows, self._ledger.owners(), claimed)
                    self._ledger.note_damage()
                    return None
        self.no_writes.trouble = "it was deleted or replaced"
        return [(row.id, row.body) for row in rows]

    def _rows(self, owner: Owner) -> list[Row]:
        """Return those of an owner's waiting events that are in the file that is open."""
        found: dict[int, Row] = {}
        if owner.waiting():
            for use in (
                (self._file.write, self._file.read) if self._file.is_open() else ()
            ):
                with suppress(SpoolUnavailable):
                    rows = use(statements.rows_between, *owner.ids())
                    found |= {row.id: row for row in rows if row.is_sound()}
        return list(found.values())

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except SpoolUnavailable as exc:
            self.no_writes.note(exc)


def _move(
    connection: sqlite3.Connection,
    rows: list[Row],
    owners: list[Owner],
    claimed: list[int],
) -> None:
    """Write rows into a new file, and take out what is settled already."""
    if rows:
        statements.add_all(connection, "events", rows)
    for owner in owners:
        statements.delete_settled(connection, owner.number, owner.taken, claimed)
