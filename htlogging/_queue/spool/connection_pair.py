"""
The two connections of a process to a spool's file: opened, used, closed and forked here.

One writes and one reads, so that a caller's `put` does not wait for the sender. They come
and go together, in one step, and none crosses a fork.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from htlogging._process import fork, locks
from htlogging._process.clock import clock
from htlogging._process.locks import AroundFork, do_within
from htlogging._process.threads import is_sending
from htlogging._queue.spool import connections, location, salvage, schema, statements
from htlogging._queue.spool.lockfile import LockFile, identity
from htlogging._queue.spool.schema import BUSY, SpoolBusy, SpoolUnavailable, Translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Concatenate, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")
    Work = Callable[Concatenate[sqlite3.Connection, P], T]

# Pages of 4,096 bytes in the write-ahead log at which a commit, perhaps a caller's,
# copies them into the file: at least, and at most. 16,384 take 50 ms. The sending thread
# does that much earlier; this is for when it waits for an answer.
WAL_PAGES = (64, 16_384)

# Seconds that a thread waits for one that writes, which may be waiting for it.
SENDER_WAIT = 0.1

# Seconds between two looks whether someone closed all descriptors: 0.4 to 3 us each.
_LOOK_EVERY = 0.001


class ConnectionPair:
    """
    A file, open to write and to read in one process.

    Args:
        path: An absolute path without links.
        name: The path as it was given.
    """

    def __init__(self, path: str, name: str | None = None) -> None:
        self.path = path
        self._name = name or path
        self._make_locks()
        # To write with, and to read with; one value, so that it is both or none.
        self._pair: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        self._lock = LockFile(f"{path}-lock")
        self._identity: tuple[int, int] | None = None  # of the file that is open
        self._descriptors: dict[int, tuple[int, int]] = {}  # SQLite's, and what of
        self.is_note_due = False  # a millisecond has gone by since counts were noted
        self._looked = 0.0  # when the descriptors were last looked at
        self._around_fork = (
            AroundFork(lambda: self.writing, lambda: SENDER_WAIT),
            AroundFork(lambda: self._reading, lambda: SENDER_WAIT),
        )
        self._is_left = False  # deleted, and what was in it is elsewhere
        self.was_taken_away = False  # there was a spool here, and it is empty or gone
        # What the strictest user asks for.
        self._full_sync = False
        self._is_set_up = True  # or its connections are older than what is asked for
        self._wal_pages = WAL_PAGES[1]
        self._logged = 0  # statements since the log was copied; a hint
        fork.register(self)

    def _make_locks(self) -> None:
        # Held while this process writes, opens or closes. Between its threads a lock
        # wakes the next one at once, where SQLite's own would sleep. Re-entrant: a
        # signal handler or a __del__ may log while this thread writes. A fork waits.
        # Nothing that Python knows is waited for while it is held, but `_reading`, and
        # nothing logged: any other lock's holder may be stopped by a signal handler
        # that logs an event.
        self.writing = locks.rlock()
        # Held while the sender reads; taken after `writing`. Who holds it waits for no
        # lock; a signal handler that comes then and writes does not wait for long.
        self._reading = locks.rlock()
        # Whether this thread is writing, or reading: a signal handler may interrupt that.
        self.is_writing_here = locks.ownership(self.writing)
        self.is_reading_here = locks.ownership(self._reading)

    def require(self, *, full_sync: bool, max_bytes: int) -> None:
        """Make writes as safe, and the log as small, as the strictest user asks for."""
        self._full_sync |= full_sync
        self._wal_pages = min(self._wal_pages, max(max_bytes // 16_384, WAL_PAGES[0]))
        # By the next write: `dictConfig` has logging's lock, and must not wait for one.
        self._is_set_up = False

    def with_writing(self, work: Callable[[], T]) -> T:
        """
        Do work with `writing`; a sending thread, or one with logging's lock, waits briefly.

        A signal handler may have stopped the writer, and wait in `flush` or for that lock.

        Raises:
            SpoolBusy: The limit was reached, and nothing was done.
        """
        if not (is_sending() or locks.holds_logging()):
            with self.writing:
                return work()
        done: list[T] = []
        do_within(self.writing, SENDER_WAIT, lambda: done.append(work()))
        if not done:
            raise SpoolBusy("another thread is writing to it", passing=True)
        return done[0]

    def write(self, work: Work[P, T], *args: P.args, **options: P.kwargs) -> T:
        """
        Do one statement, committed when this returns.

        Raises:
            SpoolUnavailable: It could not be done, and was not.
        """
        nested = self.is_writing_here()
        with Translated():
            return self.with_writing(
                lambda: work(self._to_write(nested), *args, **options)
            )

    def change(self, work: Work[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do several statements as one; raises as `write` does."""
        nested = self.is_writing_here()

        def transaction() -> T:
            connection = self._to_write(nested)
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection, *args, **options)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with suppress(*schema.ERRORS):
                        connection.execute("ROLLBACK")
            return result

        with Translated():
            return self.with_writing(transaction)

    def read(self, work: Work[P, T], *args: P.args, **options: P.kwargs) -> T:
        """
        Read.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        with Translated():
            while True:
                if self._pair is None or not self._is_intact():
                    self.with_writing(self._open)
                with self._reading:
                    pair = self._pair
                    # Looked at with the lock: a fork or `reopen` may have come between.
                    if pair is not None:
                        return work(pair[1], *args, **options)

    def insert(self, event: int, body: bytes, at: float | None = None) -> None:
        """
        Write an event, with `writing` held; it is on disk when this returns.

        Args: as `statements.insert`.

        Raises:
            sqlite3.IntegrityError: The id is taken.
            SpoolUnavailable: It cannot be written.
        """
        try:
            statements.insert(self._to_write(nested=True), event, body, at)
        except sqlite3.IntegrityError:
            raise
        except (*schema.ERRORS, OSError):
            with Translated():
                raise

    def _is_intact(self) -> bool:
        """Return whether our descriptors are ours still, as of a millisecond ago."""
        now = clock.monotonic()
        if not self._looked <= now < self._looked + _LOOK_EVERY:
            if not self._lock.is_intact():
                return False
            self._looked = now
            self.is_note_due = True
        return True

    def is_open(self) -> bool:
        """Return whether it is open in this process."""
        return self._pair is not None

    def is_gone(self) -> bool:
        """Return whether the file was deleted or replaced since it was opened."""
        return self.with_writing(
            lambda: self._pair is not None and identity(self.path) != self._identity
        )

    def has_another(self) -> bool:
        """Return whether there is a file that is not the one that was open."""
        return identity(self.path) not in (None, self._identity)

    def reopen(self) -> None:
        """Close the connections; the next statement makes or finds the file anew."""
        with self.writing, self._reading:
            self._close()

    def leave_behind(self) -> None:
        """Close a file that was deleted, and whose events are elsewhere by now."""
        with self.writing, self._reading:
            self._close()
            if identity(self.path) is None:
                with Translated():
                    try:
                        self._lock.begin_opening(BUSY)
                        if identity(self.path) is None:
                            salvage.remove(self.path)
                            self._is_left = True
                    finally:
                        self._lock.end_opening()

    def exchange(self, work: Callable[[Sequence[sqlite3.Connection]], T]) -> T:
        """
        Do what replaces the file, then close it; no other thread or process opens it.

        Args:
            work: Called with what reads the file that is open, if one is. What writes
                comes first: it has in its cache what it wrote last, and a file that
                was cut may not have that any more.
        """
        with self.writing, self._reading, Translated():
            try:
                self._lock.begin_opening(BUSY)
                return work(self._pair or ())
            finally:
                self._lock.end_opening()
                self._close()

    def _to_write(self, nested: bool) -> sqlite3.Connection:  # noqa: FBT001
        """
        Return what to write with; with `writing` held.

        Args:
            nested: Whether this thread held it before: within a transaction, perhaps.
        """
        # A signal handler that forks on this thread closes them, at any step.
        while (pair := self._pair) is None or not self._is_intact():
            self._open()
        connection = pair[0]
        if connection.in_transaction:
            if nested:
                # A signal handler within `change`: it would wait for its COMMIT.
                raise SpoolUnavailable("it is being written to", passing=True)
            connection.execute("ROLLBACK")  # of one that was cut short
        if not self._is_set_up:
            self._is_set_up = True
            with suppress(*schema.ERRORS):
                self._set_up(connection)
        self._logged += 1
        return connection

    def _open(self) -> None:
        """Open both connections, with `writing` held: both are of one file."""
        if self._pair is not None:
            if self._is_intact():
                return
            # Someone has closed their descriptors.
            pair, self._pair = self._pair, None
            connections.drop(pair, self._descriptors)
        location.check_link(self._name)
        location.make_folder(self.path)
        # Before the lock file is made there.
        location.check_owner(self.path)
        try:
            self._lock.begin_opening(BUSY)
            self._open_alone()
        finally:
            self._lock.end_opening()

    def _open_alone(self) -> None:
        salvage.finish(self.path)
        emptied = location.is_emptied(self.path)
        if emptied and not self._is_left:
            self.was_taken_away |= self._lock.is_made()
            if location.has_log(self.path):
                # SQLite would delete the log, in which there may be events.
                salvage.keep(self.path)
        self._is_left = False
        location.make(self.path)
        # Now that each is there: none was put there by another user meanwhile.
        location.check_owner(self.path)
        found = identity(self.path)
        before = connections.descriptors_of(self.path)
        opened: list[sqlite3.Connection] = []
        try:
            for _ in range(2):
                opened.append(connections.connect(self.path))
                self._set_up(opened[-1])
            self._pair = opened[0], opened[1]
        except (*schema.ERRORS, SpoolUnavailable) as exc:
            raise schema.judge(exc, self._was_spool) from exc
        finally:
            if self._pair is None:
                for connection in opened:
                    connections.close(connection)
        self._identity = found
        after = connections.descriptors_of(self.path)
        self._descriptors = {fd: what for fd, what in after.items() if fd not in before}
        self._lock.note_made()

    def _set_up(self, connection: sqlite3.Connection) -> None:
        schema.set_up(connection, full_sync=self._full_sync, log_pages=self._wal_pages)

    def _was_spool(self) -> bool:
        return self._lock.is_made() or location.is_marked(self.path)

    def _close(self) -> None:
        # First the pair, in one step: one that is cut short leaves connections that a
        # fork closes.
        pair, self._pair = self._pair, None
        for connection in pair or ():
            connections.close(connection)
        self._logged = 0

    def before_fork(self) -> bool:
        """Keep other threads off until the fork is over; return whether it is closed."""
        is_idle = all(lock.acquire() for lock in self._around_fork)
        if is_idle:
            self._close()
        return is_idle

    def after_fork_in_parent(self) -> None:
        """Let other threads use the file again."""
        for lock in reversed(self._around_fork):
            lock.restore()

    def after_fork_in_child(self) -> None:
        """Forget the parent's owners: locks of files do not cross a fork."""
        self._make_locks()
        for lock in self._around_fork:
            lock.after_fork_in_child()
        # None, where Python was told of the fork.
        pair, self._pair = self._pair, None
        for connection in pair or ():
            connections.lose(connection, connections.why_inherited())
        self._logged = 0
        self._lock.after_fork_in_child()
