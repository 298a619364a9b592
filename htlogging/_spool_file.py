"""
The spool's file: SQLite in WAL mode, shared by processes, and who owns what in it.

An *owner* is one queue of one process. It is a number, and a byte of `PATH-lock` that
is locked for as long as the process lives: the system frees it at any death, `kill -9`
included. An owner's events are sent by it alone; those of an owner whose byte is free
may be adopted by anyone, who then holds that byte too.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress

from htlogging import _spool_place
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: no spool there)
    fcntl = None  # type: ignore[assignment]

# What `PRAGMA application_id` says: "HtEv".
APPLICATION_ID = 0x48744576

# What `PRAGMA user_version` says. A file of a later version is left alone.
VERSION = 1

# Seconds to wait for another process's write. Each is short; the caller waits for it.
BUSY = 1.0

# Pages in the write-ahead log at which a commit, perhaps a caller's, copies them into
# the file. The sending thread does that much earlier; this is for when there is none.
WAL_PAGES = 16_384

# Bytes of PATH-lock: this one is held while the file is opened, the others by owners.
_OPENING = 0

_NEXT_OWNER = "SELECT owner FROM events WHERE owner > ? ORDER BY owner LIMIT 1"

_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS events (
    owner INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (owner, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    failed_at REAL NOT NULL,
    status INTEGER,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    tries INTEGER NOT NULL,
    body BLOB NOT NULL
);
COMMIT;
"""


class SpoolUnavailable(Exception):
    """The file cannot be used just now; `reason` says why, without a path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SpoolFile:
    """
    One file as one process sees it; its queues share this object.

    Writing and reading have a connection and a lock each, so that a caller's `put` never
    waits for the sender's reading. Before a fork both connections are closed: SQLite's
    must not cross one, and the next statement opens them again, in the parent and in
    the child.

    Args:
        path: An absolute path without links.
        full_sync: Whether each write shall survive a loss of power.
    """

    def __init__(self, path: str, *, full_sync: bool) -> None:
        self.path = path
        self._sync = "FULL" if full_sync else "NORMAL"
        # Held while this process writes. Between its threads a lock wakes the next one
        # at once, where SQLite's own would sleep. Re-entrant: a signal handler or a
        # __del__ may log while this thread writes. A fork waits for it.
        self.writing = threading.RLock()
        # Held while the sender reads. Taken before `writing` where both are.
        self._reading = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        # The descriptor of PATH-lock: never closed while the process lives, for that
        # would free all its locks; a forked child has none of them.
        self._lock_fd: int | None = None
        self._identity = (0, 0)  # of the file when it was opened last
        self._held: set[int] = set()  # owners whose byte is locked by this process
        self._idle: set[int] = set()  # of these, the ones that no queue serves

    def write(self, statement: str, *values: object) -> None:
        """
        Do one statement, committed when this returns.

        Raises:
            SpoolUnavailable: It could not be done, and was not.
        """
        with self.writing, _translated():
            connection = self._ready()
            if connection.in_transaction:
                # A signal handler within `transaction`: it would wait for its COMMIT.
                raise SpoolUnavailable("it is being written to")
            connection.execute(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Do several statements as one.

        Raises:
            SpoolUnavailable: They could not be done, and were not.
        """
        with self.writing, _translated():
            connection = self._ready()
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
        with self._reading, _translated():
            if self._reader is None:
                self._reader = self._open()
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
        with self.writing, _translated():
            while True:
                owner = int(time.time()) << 20 | secrets.randbits(20)
                if owner not in self._held and self._lock(owner):
                    return owner

    def adopt(self) -> list[int]:
        """
        Take over owners that have events and whom no living process serves.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        adopted = []
        # One by one along the primary key: a DISTINCT would look at every event.
        found = self.read(_NEXT_OWNER, 0)
        while found:
            owner = found[0][0]
            with self.writing:
                if owner in self._idle or (
                    owner not in self._held and self._lock(owner)
                ):
                    self._idle.discard(owner)
                    adopted.append(owner)
            found = self.read(_NEXT_OWNER, owner)
        return adopted

    def leave(self, owners: Iterable[int]) -> None:
        """Let other queues of this process adopt these; their bytes stay locked."""
        with self.writing:
            self._idle.update(owners)

    def is_gone(self) -> bool:
        """Tell whether the file was deleted or replaced since it was opened."""
        with self.writing:
            if self._writer is None:
                return False
            try:
                return _identity(self.path) != self._identity
            except OSError:
                return True

    def reopen(self) -> None:
        """Close the connections; the next statement makes or finds the file anew."""
        with self._reading, self.writing:
            self._close()

    def size(self) -> int:
        """Return the bytes that events and dead letters take, pages not all full."""
        ((used,),) = self.read(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int(used)

    def tidy(self) -> None:
        """Give pages that are free back to the system, and empty the log: it shrinks."""
        with self.writing, _translated():
            connection = self._ready()
            # As many as take a few milliseconds: the callers' writes wait for this.
            connection.execute("PRAGMA incremental_vacuum(256)").fetchall()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _lock(self, owner: int) -> bool:
        """Lock an owner's byte, unless another process has it."""
        lock = self._lock_file()
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        self._held.add(owner)
        return True

    def _lock_file(self) -> int:
        if self._lock_fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock_fd = os.open(f"{self.path}-lock", flags, 0o600)
        return self._lock_fd

    def _ready(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def _open(self) -> sqlite3.Connection:
        with self._alone():
            _spool_place.check_owner(self.path)
            _spool_place.make(self.path)
            connection = sqlite3.connect(
                self.path, BUSY, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
            self._identity = _identity(self.path)
        return connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time open the file: it may have to be made."""
        lock = self._lock_file()
        deadline = time.monotonic() + BUSY
        while True:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OPENING)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.005)
        try:
            yield
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN, 1, _OPENING)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        def pragma(text: str) -> Any:
            return connection.execute(f"PRAGMA {text}").fetchone()[0]

        is_new = pragma("schema_version") == 0
        if not is_new and pragma("application_id") != APPLICATION_ID:
            raise SpoolUnavailable("it is a database of another program")
        if pragma("user_version") > VERSION:
            raise SpoolUnavailable("it was written by a later version of htlogging")
        if is_new:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            pragma("journal_mode = WAL")
            connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        connection.execute("PRAGMA journal_size_limit = 1048576").fetchall()
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}").fetchall()

    def _close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._writer = None

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
        self.writing = threading.RLock()
        self._reading = threading.RLock()
        self._held = set()
        self._idle = set()


# One object for a path, for as long as the process lives: two descriptors of one lock
# file would undo each other's locks. Only added to.
_files: dict[str, SpoolFile] = {}
_files_lock = threading.RLock()  # guards _files; replaced in a forked child


def shared(path: str, *, full_sync: bool) -> SpoolFile:
    """Return this process's object for a path."""
    with _files_lock:
        real = os.path.realpath(path)
        if real not in _files:
            _files[real] = SpoolFile(real, full_sync=full_sync)
        return _files[real]


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise SpoolUnavailable(str(exc)) from exc
    except InvalidSetting as exc:
        raise SpoolUnavailable(str(exc)) from exc
    except OSError as exc:
        raise SpoolUnavailable(exc.strerror or type(exc).__name__) from exc


def _before_fork() -> None:
    for file in list(_files.values()):
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in list(_files.values()):
        file.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _files_lock  # noqa: PLW0603
    _files_lock = threading.RLock()
    for file in list(_files.values()):
        file.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
