"""What the tests of the spool share: its file looked at, and written, by hand."""

import sqlite3
import time
from contextlib import closing

from htlogging._queue.spool.checksum import checksum_of
from htlogging._queue.spool.rows import id_of

# What version 1 made; events were known by two numbers, and had no checksum.
SCHEMA_1 = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1215579510;
PRAGMA user_version = 1;
CREATE TABLE events (
    owner INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (owner, seq)
);
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    failed_at REAL NOT NULL,
    status INTEGER,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    tries INTEGER NOT NULL,
    body BLOB NOT NULL
);
"""


def sql(connection, query, *values):
    """Do a statement, and return its rows: for `SpoolFile.write` and `read`."""
    return connection.execute(query, values).fetchall()


def row_of(owner, seq, body, at=None):
    """Return the whole row of an event."""
    event = id_of(owner, seq)
    return event, time.time() if at is None else at, checksum_of(event, body), body


def add_rows(connection, rows):
    """Write whole rows of events."""
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)


def make_version_1(path, events=(), dead=()):
    """Make a spool as version 1 left it: events are (owner, seq, at, body)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_1)
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", events)
        query = "INSERT INTO dead VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
        connection.executemany(query, dead)
        connection.commit()
