"""Writing an event to a spool: on a caller's thread, whatever interrupts it."""

from __future__ import annotations

import sqlite3

from htlogging._process.locks import do_within, holds_logging
from htlogging._process.threads import is_sending
from htlogging._queue.spool import statements
from htlogging._queue.spool.owner import Owner
from htlogging._queue.spool.rows import id_of
from htlogging._queue.spool.schema import SpoolUnavailable, translate
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._queue.spool.database import SpoolFile
    from htlogging._queue.spool.ledger import Ledger
    from htlogging._queue.spool.outage import Outage

# In a burst the count of an owner's events is written down with every 32nd event: those
# whose number has none of these bits. With each it would take a fifth of a call's time.
_NOTE_MASK = 31

# For this many events of an owner, the first, the count is written down with each.
_NOTE_FIRST = 64

# Seconds that a signal handler waits to write when its thread was reading.
_HANDLER_WAIT = 1.0


class Writer:
    """
    What `put` and `claim_new` write with.

    Args:
        file: The file.
        ledger: What the queue knows.
        no_writes: Whether the file cannot be written, and why.
        use_path: Called first; raises `InvalidSetting` where another queue has the path.
    """

    def __init__(
        self,
        file: SpoolFile,
        ledger: Ledger,
        no_writes: Outage,
        use_path: Callable[[], None],
    ) -> None:
        self._file = file
        self._ledger = ledger
        self._no_writes = no_writes
        self._use_path = use_path

    def insert(self, event: bytes, *, direct: bool) -> int | None:
        """Write an event and return its id; `None`: it must be kept in memory."""
        if self._no_writes.is_on():
            return None
        try:
            self._use_path()
            writing = self._file.writing
            if not (self._file.is_reading_here() or is_sending() or holds_logging()):
                # Keeps the order of what threads write, and their numbers apart.
                with writing:
                    return self._write(event, direct=direct)
            # In a signal handler, the owner of `writing` may wait for the interrupted call.
            # In `on_error`, a signal handler may have stopped the owner; and it may wait
            # for logging's lock, if this thread has that.
            return do_within(
                writing, _HANDLER_WAIT, lambda: self._write(event, direct=direct)
            )
        except (SpoolUnavailable, InvalidSetting) as exc:
            self._no_writes.note(exc)
        return None

    def _write(self, event: bytes, *, direct: bool) -> int:
        while True:
            owner = self._ledger.direct if direct else self._ledger.own
            if owner is None or owner.is_full():
                owner = self._add(direct=direct)
            # No number is drawn before it is written: a signal handler that comes
            # between takes this one, and we find it taken. So the order of numbers is
            # the order of commits, and a reader misses none.
            seq = owner.last + 1
            try:
                self._file.insert(id_of(owner.number, seq), event, self._file.time())
            except sqlite3.IntegrityError as exc:
                last = self._file.write(statements.last_of, owner.number)
                owner.last = max(owner.last, last)
                if owner.last < seq:
                    # It is not taken: the table has a rule that is not ours, a later
                    # version's perhaps. Another try would fail as well, without end.
                    raise translate(exc) from exc
                continue
            owner.last = max(owner.last, seq)
            if seq <= _NOTE_FIRST or self._file.is_note_due or not seq & _NOTE_MASK:
                self._file.is_note_due = False
                self._file.note(owner.number, owner.last, owner.settled)
            if not direct:
                self._ledger.recent.append((id_of(owner.number, seq), event))
            return id_of(owner.number, seq)

    def _add(self, *, direct: bool) -> Owner:
        """Take a number for this queue's events."""
        owner = Owner(self._file.new_owner())
        if direct:
            self._ledger.direct = owner
        else:
            self._ledger.serve(owner)
        return owner
