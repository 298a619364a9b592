"""
A spool seen from outside: by the commands, beside the processes that it belongs to.

Nothing is made that is not there. Reads are short, a page of rows each: a long one would
keep SQLite from emptying the log. Writes are short too, with pauses between them:
processes write one event at a time, and wait a second at most for their turn.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from urllib.parse import quote

from htlogging._command_error import Failed
from htlogging._queue.spool import location
from htlogging._queue.spool.lockfile import LockFile
from htlogging._queue.spool.schema import APPLICATION_ID, VERSION
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: no spool there)
    fcntl = None  # type: ignore[assignment]

# Seconds to wait for another's write; nobody waits for ours meanwhile.
BUSY = 30.0

# Rows of a read.
_PAGE = 200

# Seconds between two writes: SQLite's waiters sleep, and would not get their turn.
_PAUSE = 0.03

# The byte of PATH-lock that a replay holds. Owners' numbers are far above it.
_REPLAY = 1

_NEXT_OWNER = "SELECT min(owner) FROM events WHERE owner > ?"


class SpoolView:
    """
    A spool that is there.

    Args:
        path: Of its file.
        change: Whether to change it, too, which only its owner may.

    Raises:
        Failed: There is none, it is none, or it cannot be read.
    """

    def __init__(self, path: str, *, change: bool = False) -> None:
        self.path = os.path.realpath(path)
        self._name = path
        self._lock = LockFile(f"{self.path}-lock")
        if fcntl is None:  # pragma: no cover
            raise Failed(
                "a spool needs POSIX file locks, which this system does not have"
            )
        if not os.path.exists(self.path):
            raise Failed(f"{path}: no such file")
        if change:
            try:
                location.check_owner(self.path)
            except InvalidSetting:
                raise Failed(f"{path}: the file belongs to another user") from None
        with self.translated():
            # mode=rw: unlike the default, it makes no file.
            uri = f"file:{quote(self.path)}?mode=rw"
            self.connection = sqlite3.connect(
                uri, timeout=BUSY, uri=True, isolation_level=None
            )
            self.version = self._check()

    def _check(self) -> int:
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise Failed(f"{self._name}: not a spool but a database of another program")
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise Failed(f"{self._name}: written by a later version of htlogging")
        return int(version)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Make one line of an error of the file."""
        try:
            yield
        except BrokenPipeError:  # of what is printed meanwhile
            raise
        except (sqlite3.Error, OSError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise Failed(f"{self._name}: {reason}") from exc

    def close(self) -> None:
        """Close it; the last one to do so empties the log, as always in SQLite."""
        self.connection.close()

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query."""
        return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do several statements as one, after a pause that lets others write."""
        threading.Event().wait(_PAUSE)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def owners(self) -> list[int]:
        """Return the owners that have events, the elder ones first."""
        found, owner = [], 0
        # One by one along the primary key: a DISTINCT would look at every event.
        while (owner := self.read(_NEXT_OWNER, owner)[0][0]) is not None:
            found.append(owner)
        return found

    def living(self, owners: list[int]) -> set[int]:
        """
        Return those of the owners whose process lives.

        Not to be called while this process holds any: it would lose them.
        """
        try:
            lock = os.open(f"{self.path}-lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return set()
        try:
            return {owner for owner in owners if _is_locked(lock, owner)}
        finally:
            os.close(lock)

    def hold(self, owner: int) -> bool:
        """Take over an owner whom nobody serves, for as long as this process lives."""
        return self._lock.take(owner)

    def hold_replay(self) -> bool:
        """Be the only one who replays; `False`: another does."""
        return self.hold(_REPLAY)

    def events(self, owner: int) -> Iterator[tuple[int, int, float, bytes]]:
        """Yield an owner's waiting events: owner, seq, at, body."""
        last = -1
        while rows := self.read(
            "SELECT owner, seq, at, body FROM events WHERE owner = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            owner,
            last,
            _PAGE,
        ):
            yield from rows
            last = rows[-1][1]

    def letters(self) -> Iterator[tuple[Any, ...]]:
        """Yield the dead letters: their columns, in the table's order."""
        last = -1
        while rows := self.read(
            "SELECT id, at, failed_at, status, code, message, tries, body FROM dead"
            " WHERE id > ? ORDER BY id LIMIT ?",
            last,
            _PAGE,
        ):
            yield from rows
            last = rows[-1][0]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of its files, by what is added to PATH; "" is PATH."""
        found = {}
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                found[suffix] = os.stat(self.path + suffix).st_size
        return found


def _is_locked(lock: int, owner: int) -> bool:
    try:
        # Shared, for an instant: who wants to adopt it looks again in two seconds.
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, owner)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(lock, fcntl.LOCK_UN, 1, owner)
    return False
