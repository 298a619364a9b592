"""
The spool's file: SQLite in WAL mode, shared by processes, and who owns what in it.

An owner's events are sent by it alone; those of an owner whose byte of `PATH-lock` is
free (see `_spool_lock`) may be adopted by anyone, who then holds that byte too.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress

from htlogging._process import fork
from htlogging._queue.spool import location
from htlogging._queue.spool.lockfile import LockFile, identity
from htlogging._queue.spool.schema import (
    BUSY,
    PAGE,
    SpoolUnavailable,
    Translated,
    connect,
)
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from typing import Any

# Pages in the write-ahead log at which a commit, perhaps a caller's, copies them into
# the file: at least, and at most. 16,384 take 50 ms. The sending thread does that much
# earlier; this is for when it waits for an answer.
WAL_PAGES = (1_000, 16_384)

# The share of these at which it does: in statements, of which an event's takes two to
# ten.
_EARLIER = 32

# The share that stays on disk when the log begins anew. To cut it and have it grow again
# took a quarter of a call's time.
_KEPT = 4

# Pages given back to the system in one go: a few milliseconds, which callers wait for.
_SOME_PAGES = 256

_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
_NEXT_OWNER = "SELECT owner FROM events WHERE owner > ? ORDER BY owner LIMIT 1"


class SpoolFile:
    """
    One file as one process sees it; its queues share this object.

    Writing and reading have a connection and a lock each, so that a caller's `put` does
    not wait for the sender's reading. Before a fork both connections are closed: SQLite's
    must not cross one, and the next statement opens them again, in the parent and in
    the child.

    Args:
        path: An absolute path without links.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._make_locks()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._crossed: list[object] = []  # connections of a parent: kept, unused
        self._lock = LockFile(f"{path}-lock")
        self._identity: tuple[int, int] | None = None  # of the file that is open
        # Owners that no queue serves.
        self._idle: set[int] = set()
        # Queues and where they send to. Not guarded: each operation is atomic.
        self._users: weakref.WeakKeyDictionary[object, Hashable] = (
            weakref.WeakKeyDictionary()
        )
        # What the strictest user asks for, and whether the writer has been told.
        self._full_sync = False
        self._wal_pages = WAL_PAGES[1]
        self._told = False
        self._logged = 0  # statements since the log was copied; a hint
        fork.register(self)

    def _make_locks(self) -> None:
        # Held while this process writes. Between its threads a lock wakes the next one
        # at once, where SQLite's own would sleep. Re-entrant: a signal handler or a
        # __del__ may log while this thread writes. A fork waits for it.
        # Nothing that Python knows is waited for while it is held, and nothing logged:
        # any other lock's holder may be stopped by a signal handler that logs an event.
        self.writing = threading.RLock()
        # Held while the sender reads. Taken before `writing` where both are.
        self._reading = threading.RLock()

    def join(self, user: object, destination: Hashable) -> None:
        """
        Use the file for events to a destination.

        Raises:
            InvalidSetting: Others of this process use it for another one. Events of
                processes that died do not tell where they shall go.
        """
        if any(other != destination for other in list(self._users.values())):
            raise InvalidSetting(
                "spool is in use in this process with another write_key or host; "
                "give each its own path, or close the other one first"
            )
        self._users[user] = destination

    def part(self, user: object) -> None:
        """Use it no more, for now."""
        self._users.pop(user, None)

    def ask(self, *, full_sync: bool, max_bytes: int) -> None:
        """Have it as safe, and its log as small, as the strictest user asks for."""
        self._full_sync |= full_sync
        pages = max(max_bytes // PAGE // 4, WAL_PAGES[0])
        self._wal_pages = min(self._wal_pages, pages)
        self._told = False

    def is_writing_here(self) -> bool:
        """Tell whether this thread is writing: we are in a signal handler, or so."""
        return self.writing._is_owned()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001

    def write(self, statement: str, *values: object) -> int:
        """
        Do one statement, committed when this returns; return the rows it changed.

        Raises:
            SpoolUnavailable: It could not be done, and was not.
        """
        with self.writing, Translated():
            return self._to_write().execute(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Do several statements as one.

        Raises:
            SpoolUnavailable: They could not be done, and were not.
        """
        with self.writing, Translated():
            connection = self._to_write()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """
        Give a connection to read with.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        with self._reading, Translated():
            if self._reader is None:
                with self.writing:
                    self._open()
            assert self._reader is not None
            yield self._reader

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query; raises as `reading` does."""
        with self.reading() as connection:
            return connection.execute(query, values).fetchall()

    def new_owner(self) -> int:
        """
        Take a number that nobody has, and lock its byte.

        It begins with the time: elder owners are adopted first. The rest is random, so
        that a file that was deleted and made anew does not see a number again.

        Raises:
            SpoolUnavailable: The lock file cannot be made.
        """
        with self.writing, Translated():
            while True:
                # A clock that was never set may stand at 0, or before.
                owner = max(int(time.time()), 1) << 20 | secrets.randbits(20)
                if owner not in self._lock.held and self._lock.take(owner):
                    return owner

    def adopt(self) -> Iterator[int]:
        """
        Take over owners that have events and whom nobody serves, the elder ones first.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        with self.writing, Translated():
            # Another file may have its name: then our locks are nobody's to see.
            self._lock.ready()
        # One by one along the index: a DISTINCT would look at every event.
        found = self.read(_NEXT_OWNER, 0)
        while found:
            owner = found[0][0]
            with self.writing, Translated():
                if owner in self._lock.held:
                    # Whatever the destination was: as if its process had died.
                    ours = owner in self._idle
                    self._idle.discard(owner)
                else:
                    ours = self._lock.take(owner)
            if ours:
                yield owner
            found = self.read(_NEXT_OWNER, owner)

    def leave(self, owners: Iterable[int]) -> None:
        """Let other queues of this process adopt these; their bytes stay locked."""
        with self.writing:
            self._idle.update(owners)

    def free(self, owners: Iterable[int]) -> None:
        """Serve these no more: they have no events."""
        with self.writing, Translated():
            for owner in owners:
                self._idle.discard(owner)
                self._lock.free(owner)

    def is_open(self) -> bool:
        """Tell whether it is open in this process."""
        return self._writer is not None

    def is_used(self) -> bool:
        """Tell whether a queue uses it."""
        return bool(self._users)

    def is_there(self) -> bool:
        """Tell whether there is a file, as far as is known."""
        return self.is_open() or os.path.exists(self.path)

    def is_gone(self) -> bool:
        """Tell whether the file was deleted or replaced since it was opened."""
        with self.writing:
            return self._writer is not None and identity(self.path) != self._identity

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other thread use it."""
        with self._reading, self.writing:
            yield

    def reopen(self) -> None:
        """Close the connections; the next statement makes or finds the file anew."""
        with self.locked():
            self._close()

    def size(self) -> int:
        """Return the bytes that events and dead letters take, pages not all full."""
        ((used,),) = self.read(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int(used)

    def tidy(self, rounds: int) -> None:
        """
        Give pages that are free back to the system, and empty the log: it shrinks.

        Args:
            rounds: How often to give back a megabyte, with a pause for callers between.
        """
        while rounds and self.read("PRAGMA freelist_count") != [(0,)]:
            rounds -= 1
            with self.writing, Translated():
                connection = self._to_write()
                # Not `execute`: it would stop after the first page, which SQLite
                # returns as a row without columns.
                connection.executescript(f"PRAGMA incremental_vacuum({_SOME_PAGES})")
        self.checkpoint()

    def log_is_long(self) -> bool:
        """Tell whether it is time for `checkpoint`."""
        return self._logged >= self._wal_pages // _EARLIER

    def checkpoint(self) -> None:
        """Copy the log into the file, so that no caller's commit has to; if that can be."""
        self._logged = 0  # first: a failure waits for its turn as well
        # If not, there is no harm: events can be written all the same.
        with suppress(SpoolUnavailable):
            with self.reading() as connection:
                # Here callers write meanwhile.
                connection.execute(_CHECKPOINT).fetchall()
            # Not within the other: a signal handler may read while its thread writes.
            # Callers wait while what they wrote meanwhile is copied, and for the file's
            # sync: 3 ms here. The log begins anew only when all of it was copied.
            with self.writing, Translated():
                self._to_write().execute(_CHECKPOINT).fetchall()

    def _to_write(self) -> sqlite3.Connection:
        if self._writer is None:
            self._open()
        assert self._writer is not None
        if not self._told:
            self._told = True
            sync = "FULL" if self._full_sync else "NORMAL"
            self._writer.execute(f"PRAGMA synchronous = {sync}")
            pages = f"PRAGMA wal_autocheckpoint = {self._wal_pages}"
            self._writer.execute(pages).fetchall()
            kept = f"PRAGMA journal_size_limit = {self._wal_pages // _KEPT * PAGE}"
            self._writer.execute(kept).fetchall()
        if self._writer.in_transaction:
            # A signal handler within `transaction`: it would wait for its COMMIT.
            raise SpoolUnavailable("another process is writing to it", passing=True)
        self._logged += 1
        return self._writer

    def _open(self) -> None:
        """Open both connections, with `writing` held: both are of one file."""
        if self._crossed:
            raise SpoolUnavailable(
                "the process was forked without Python being told, after its first "
                "event; uWSGI has py-call-uwsgi-fork-hooks for that"
            )
        with self._lock.alone(BUSY):
            location.check_owner(self.path)
            location.make(self.path)
            found = identity(self.path)
            writer = connect(self.path)
            try:
                reader = connect(self.path)
            except BaseException:
                writer.close()
                raise
        self._identity = found
        self._told = False
        self._writer, self._reader = writer, reader

    def _close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._writer = None
        self._logged = 0

    def before_fork(self) -> None:
        """Close the connections, and let nobody open one until the fork is over."""
        self._reading.acquire()
        self.writing.acquire()
        self._close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.writing.release()
        self._reading.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's owners: locks of files do not cross a fork."""
        self._make_locks()
        if self._writer is not None:
            # Python was not told of the fork. SQLite would take the parent's locks for
            # its own, also in a new connection (sqlite.org/howtocorrupt.html, 2.6).
            self._crossed += [self._writer, self._reader]
            self._reader = self._writer = None
            self._logged = 0
        self._lock.after_fork_in_child()
        self._idle = set()
        self._users = weakref.WeakKeyDictionary()
