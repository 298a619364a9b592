"""
A spool seen from outside: by the commands, beside the processes that it belongs to.

Nothing is made that is not there. Reads are short, a page of rows each: a long one would
keep SQLite from emptying the log. Writes are short too, with pauses between them:
processes write one event at a time, and wait two seconds at most for their turn.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import threading
from collections import Counter
from contextlib import contextmanager, suppress

from htlogging._queue.spool import connections, location, salvage, schema, statements
from htlogging._queue.spool.lockfile import REPLAY, LockFile
from htlogging._queue.spool.rows import ends_of
from htlogging._queue.spool.schema import (
    APPLICATION_ID,
    ERRORS,
    SEQ_BITS,
    VERSION,
    SpoolUnavailable,
)
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Concatenate, ParamSpec, TypeVar

    from htlogging._queue.spool.rows import Letter, Row

    P = ParamSpec("P")
    T = TypeVar("T")
    Work = Callable[Concatenate[sqlite3.Connection, P], T]

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: no spool there)
    fcntl = None  # type: ignore[assignment]

# Seconds to wait for another's write; no other process waits for ours meanwhile.
BUSY = 30.0

# Seconds between two writes: SQLite's waiters sleep, and would not get their turn.
_PAUSE = 0.03


class SpoolError(Exception):
    """A spool cannot be looked at, or changed, as a command was asked to."""


class SpoolView:
    """
    A spool that is there.

    Args:
        path: Of its file.
        change: Whether to change it, too, which only its owner may.
        busy: Seconds to wait for another process's write, or for readers.

    Raises:
        SpoolError: There is no file, it is no spool, or it cannot be read.
    """

    def __init__(self, path: str, *, change: bool = False, busy: float = BUSY) -> None:
        self.busy = busy
        self.path = os.path.realpath(path)
        self._name = os.fsencode(path).decode("utf-8", "backslashreplace")
        self._lock = LockFile(f"{self.path}-lock")
        if fcntl is None:  # pragma: no cover
            raise SpoolError(
                "a spool needs POSIX file locks, which this system does not have"
            )
        if not os.path.exists(self.path):
            raise SpoolError(f"{self._name}: no such file")
        try:
            if change:
                location.check_owner(self.path)
            else:
                location.check_beside(self.path)
        except location.BelongsToAnotherUser:
            raise SpoolError(
                f"{self._name}: the file belongs to another user"
            ) from None
        except InvalidSetting as exc:
            raise SpoolError(f"{self._name}: {exc}") from None
        with self.translated():
            self.connection = connections.connect(self.path)
            try:
                self._begin(change=change)
            except BaseException:
                self.close()
                raise

    def _begin(self, *, change: bool) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {self.busy * 1000:.0f}")
        # No copy of what is in the file lies elsewhere, not even for a moment.
        self.connection.execute("PRAGMA temp_store = MEMORY")
        self.version = self._check(change=change)

    def _check(self, *, change: bool) -> int:
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise SpoolError(
                f"{self._name}: not a spool but a database of another program"
            )
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise SpoolError(f"{self._name}: written by a later version of htlogging")
        if version < VERSION:
            if not change:
                raise SpoolError(
                    f"{self._name}: written by an earlier version of htlogging; the "
                    "application takes it over when it starts, and so do replay, drop "
                    "and forget"
                )
            schema.set_up(self.connection)
        return VERSION

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Make a `SpoolError` of an error of the file."""
        try:
            yield
        except BrokenPipeError:  # of what is printed meanwhile
            raise
        except ERRORS as exc:
            raise SpoolError(f"{self._name}: {schema.translate(exc)}") from exc
        except SpoolUnavailable as exc:
            raise SpoolError(f"{self._name}: {exc}") from exc
        except OSError as exc:
            raise SpoolError(f"{self._name}: {exc.strerror or exc}") from exc

    def close(self) -> None:
        """Close it; the last one to do so empties the log, as always in SQLite."""
        connections.close(self.connection)

    def read(self, work: Work[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Read."""
        return work(self.connection, *args, **options)

    def change(self, work: Work[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do several statements as one, after a pause that lets others write."""
        threading.Event().wait(_PAUSE)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = work(self.connection, *args, **options)
            self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        return result

    def owners(self) -> list[int]:
        """Return the owners that have events, the elder ones first."""
        found: list[int] = []
        # One by one along the key: a DISTINCT would look at every event.
        owner = self.read(statements.next_owner, 0)
        while owner is not None:
            found.append(owner)
            owner = self.read(statements.next_owner, owner)
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

    def note_settled(self, ids: Iterable[int]) -> None:
        """Write down that waiting events were taken out: they are not lost."""
        with suppress(OSError):
            for owner, gone in Counter(event >> SEQ_BITS for event in ids).items():
                if found := self._lock.noted(owner):
                    self._lock.note(owner, found[0], found[1] + gone)

    def remove_unfinished(self) -> None:
        """Remove a copy of events that a process which died has left beside the file."""
        try:
            self._lock.begin_opening(self.busy)
            salvage.finish(self.path)
        finally:
            self._lock.end_opening()

    def lock_owner(self, owner: int) -> bool:
        """Take over an owner that no process serves, for as long as this process lives."""
        return self._lock.lock(owner)

    def lock_replay(self) -> bool:
        """Be the only one who replays; `False`: another does."""
        return self.lock_owner(REPLAY)

    def events(self, owner: int) -> Iterator[Row]:
        """Yield an owner's waiting events, those that are damaged included."""
        return statements.rows(self.connection, *ends_of(owner))

    def letters(self) -> Iterator[Letter]:
        """Yield the dead letters, those that are damaged included."""
        return statements.letters(self.connection)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of its files, by what is added to PATH; "" is PATH."""
        found = {}
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                found[suffix] = os.stat(self.path + suffix).st_size
        return found

    def kept_aside(self) -> list[str]:
        """Return the names of damaged files that were kept beside it."""
        found = glob.glob(f"{glob.escape(self.path)}.damaged-*")
        return sorted(os.path.basename(path) for path in found)


def _is_locked(lock: int, owner: int) -> bool:
    try:
        # Shared, for an instant: who wants to adopt it looks again in two seconds.
        fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, owner)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(lock, fcntl.LOCK_UN, 1, owner)
    return False
