"""The spool's tables, and opening a file that has them, or shall."""

from __future__ import annotations

import sqlite3

from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What `PRAGMA application_id` says: "HtEv".
APPLICATION_ID = 0x48744576

# What `PRAGMA user_version` says. A file of a later version is left alone.
VERSION = 1

# Seconds to wait for another process's write. Each is short; the caller waits for it.
BUSY = 2.0

# Bytes of a page.
PAGE = 4_096

# Not WITHOUT ROWID: there an event of 1,000 bytes and more would have a page of its own,
# five times the room and twice the time.
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
);
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
    """
    The file cannot be used just now.

    Args:
        reason: Why, without a path.
        passing: Whether the very next try may do.
        broken: Whether what is open may be of no use any more.
    """

    def __init__(
        self, reason: str, *, passing: bool = False, broken: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.broken = broken


def connect(path: str) -> sqlite3.Connection:
    """
    Open a file that is there, and make the tables if it is empty.

    Raises:
        SpoolUnavailable: It is another program's, or a later version's.
        sqlite3.Error: It cannot be opened.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY, isolation_level=None, check_same_thread=False
    )
    try:
        _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    def pragma(text: str) -> Any:
        return connection.execute(f"PRAGMA {text}").fetchone()[0]

    is_new = pragma("schema_version") == 0
    if not is_new and pragma("application_id") != APPLICATION_ID:
        raise SpoolUnavailable("it is a database of another program")
    if pragma("user_version") > VERSION:
        raise SpoolUnavailable("it was written by a later version of htlogging")
    if is_new:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if pragma("journal_mode = WAL") != "wal":
            raise SpoolUnavailable("its file system does not support shared memory")
        connection.executescript(_SCHEMA)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 1048576").fetchall()


class Translated:
    """
    Raises `SpoolUnavailable` instead of what SQLite, the system and `_spool_place` raise.

    A class: callers come here, and a `contextmanager` takes 0.5 us more.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: BaseException | None, _tb: object) -> None:
        if isinstance(exc, sqlite3.Error):
            # The plain class: the file is malformed, or none of SQLite's.
            broken = not isinstance(exc, sqlite3.OperationalError)
            raise SpoolUnavailable(str(exc), broken=broken) from exc
        if isinstance(exc, InvalidSetting):
            raise SpoolUnavailable(str(exc)) from exc
        if isinstance(exc, OSError):
            raise SpoolUnavailable(exc.strerror or type(exc).__name__) from exc
