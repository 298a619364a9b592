"""The spool's tables: made, brought up to date, and opened with every pragma set."""

from __future__ import annotations

import json
import sqlite3
import time

from htlogging._process.interruption import is_passing
from htlogging._queue.spool.checksum import checksum_of
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What `PRAGMA application_id` says: "HtEv".
APPLICATION_ID = 0x48744576

# What `PRAGMA user_version` says. A file of a later version is left alone.
VERSION = 2

# Seconds to wait for another process's write. Each is short; the caller waits for it.
BUSY = 2.0

# What SQLite's module raises. Its sentences may quote a file's damaged schema, which is not
# UTF-8 any more.
ERRORS = (sqlite3.Error, UnicodeDecodeError)

# Bytes of a page in a new file. An event's commit writes one page to the log, so small
# ones are the faster, by a tenth; but of 2,048 bytes an event of 1,010 fills one alone.
PAGE = 4_096

# An event's id is its owner's number and its number there, in one integer: a row takes
# one look along one tree, a third less time than with an index beside the table.
SEQ_BITS = 27
MAX_SEQ: int = 2**SEQ_BITS - 1
MAX_OWNER: int = 2 ** (63 - SEQ_BITS) - 1
MAX_ID: int = 2**63 - 2  # of any row that is looked for; its negative fits, too

# `at` is in seconds since 1970. The check keeps an earlier version, which knows four
# columns of `events` in another order, from writing.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    crc INTEGER NOT NULL CHECK (typeof(crc) = 'integer'),
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    failed_at REAL NOT NULL,
    status INTEGER,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    tries INTEGER NOT NULL,
    event INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS damaged (
    id INTEGER PRIMARY KEY,
    found_at REAL NOT NULL,
    event INTEGER NOT NULL,
    body BLOB
);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    started REAL NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

# From version 1: owners get small numbers, in their order, so that they stay the elder
# ones. What is no JSON any more is set aside.
_FROM_1 = f"""
CREATE TEMP TABLE owners AS
    SELECT owner, 15 + row_number() OVER (ORDER BY owner) AS number
    FROM (SELECT DISTINCT owner FROM old_events);
INSERT INTO events
    SELECT id, at, event_checksum(id, body), body FROM (
        SELECT owners.number << {SEQ_BITS} | seq AS id, at, body
        FROM old_events JOIN owners USING (owner)
        WHERE seq BETWEEN 1 AND {MAX_SEQ}
    ) WHERE is_event(body) ORDER BY id;
INSERT INTO dead
    SELECT id, at, failed_at, status, code, message, tries, id,
        event_checksum(id, body), body
    FROM old_dead WHERE is_event(body);
INSERT INTO damaged (found_at, event, body)
    SELECT unixepoch_now(), seq, body FROM old_events WHERE NOT is_event(body)
    UNION ALL
    SELECT unixepoch_now(), id, body FROM old_dead WHERE NOT is_event(body);
DROP TABLE owners;
DROP TABLE old_events;
DROP TABLE old_dead;
"""


class SpoolUnavailable(Exception):
    """
    The file cannot be used just now.

    Args:
        reason: Why, without a path and without anything of an event.
        passing: Whether the very next try may succeed.
        broken: Whether what is open may be of no use any more.
        damaged: Whether the file does not hold what was written to it.
        alien: Whether it seems to be no spool; it may be one that was damaged.
    """

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        broken: bool = False,
        damaged: bool = False,
        alien: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.broken = broken or damaged
        self.damaged = damaged
        self.alien = alien


class SpoolBusy(SpoolUnavailable):
    """
    Another thread writes, and does not end: a signal handler may have stopped it.

    A sending thread does something else meanwhile, and reports nothing.
    """


def set_up(
    connection: sqlite3.Connection, *, full_sync: bool = False, log_pages: int = 1_000
) -> None:
    """
    Make the tables where there are none, and set what a connection is asked for.

    Args:
        connection: Fresh.
        full_sync: Whether each commit waits for the disk.
        log_pages: Pages of 4,096 bytes in the log at which a commit empties it; a
            quarter of that stays on disk when it begins anew: to cut it and have it
            grow again took a quarter of a call's time.

    Raises:
        SpoolUnavailable: It is another program's, or a later version's.
        sqlite3.Error: It cannot be used.
    """

    def pragma(text: str) -> Any:
        return connection.execute(f"PRAGMA {text}").fetchone()[0]

    is_new = pragma("schema_version") == 0
    if not is_new and pragma("application_id") != APPLICATION_ID:
        raise SpoolUnavailable("it is a database of another program", alien=True)
    version = pragma("user_version")
    if version > VERSION:
        raise SpoolUnavailable("it was written by a later version of htlogging")
    if is_new:
        # No PATH-journal is made, nor one that is there deleted: see `location`.
        connection.execute("PRAGMA journal_mode = MEMORY").fetchall()
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if pragma("journal_mode = WAL") != b"wal":
            raise SpoolUnavailable("its file system does not support shared memory")
    # Sorting, and a rewrite of the file, take memory: no copy lies elsewhere.
    connection.execute("PRAGMA temp_store = MEMORY")
    if version < VERSION:
        _upgrade(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    log_bytes = log_pages * 4_096
    size = pragma("page_size")
    connection.execute(f"PRAGMA wal_autocheckpoint = {log_bytes // size}").fetchall()
    kept = f"PRAGMA journal_size_limit = {log_bytes // 4}"
    connection.execute(kept).fetchall()


def _upgrade(connection: sqlite3.Connection) -> None:
    """Make the tables; take over what an earlier version wrote, all or nothing."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        # Looked at again: another process may have done it meanwhile.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 1:
            connection.execute("ALTER TABLE events RENAME TO old_events")
            connection.execute("ALTER TABLE dead RENAME TO old_dead")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        if version == 1:
            connection.create_function("event_checksum", 2, checksum_of)
            connection.create_function("is_event", 1, _is_event)
            connection.create_function("unixepoch_now", 0, time.time)
            for statement in _FROM_1.split(";"):
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_event(body: object) -> bool:
    if not isinstance(body, bytes):
        return False
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


class Translated:
    """
    Raises `SpoolUnavailable` instead of what SQLite, the system and `location` raise.

    A class: callers come here, and a `contextmanager` takes 0.5 us more.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: BaseException | None, _tb: object) -> None:
        if isinstance(exc, ERRORS):
            raise translate(exc) from exc
        if isinstance(exc, InvalidSetting):
            raise SpoolUnavailable(str(exc)) from exc
        if isinstance(exc, OSError) and not is_passing(exc):
            raise SpoolUnavailable(exc.strerror or type(exc).__name__) from exc


def translate(exc: sqlite3.Error | UnicodeDecodeError) -> SpoolUnavailable:
    """Return what an error of SQLite's means."""
    if isinstance(exc, UnicodeDecodeError):
        return SpoolUnavailable("database disk image is malformed", damaged=True)
    # Some sentences quote what is in a row, in quotation marks: no event's content
    # goes on from here.
    reason = str(exc).partition("'")[0].strip()
    # The plain class: the file is malformed, or none of SQLite's.
    damaged = type(exc) is sqlite3.DatabaseError or reason.startswith("no such")
    broken = damaged or not isinstance(exc, sqlite3.OperationalError)
    # As after someone closed all descriptors, or cut the file under it.
    broken |= reason in ("disk I/O error", "unable to open database file")
    alien = reason in ("file is not a database", "unsupported file format")
    return SpoolUnavailable(reason, broken=broken, damaged=damaged, alien=alien)


def judge(
    exc: sqlite3.Error | UnicodeDecodeError | SpoolUnavailable,
    was_spool: Callable[[], bool],
) -> SpoolUnavailable:
    """
    Return why a file cannot be opened: it is damaged, or was never a spool.

    Args:
        exc: What opening it has raised.
        was_spool: Returns whether the file was a spool once.
    """
    found = exc if isinstance(exc, SpoolUnavailable) else translate(exc)
    if found.alien and was_spool():
        return SpoolUnavailable(found.reason, damaged=True)
    # A file of someone else's is left alone.
    found.damaged &= not found.alien
    return found
