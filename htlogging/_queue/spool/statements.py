"""All that is asked of a spool's tables, in SQL; each takes a connection."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing

from htlogging._queue.spool.checksum import checksum_of, is_sound
from htlogging._queue.spool.rows import (
    Letter,
    Page,
    Reason,
    Row,
    Sum,
    ends_of,
    id_of,
    is_younger,
    runs,
)
from htlogging._queue.spool.schema import MAX_ID, MAX_SEQ, SEQ_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from htlogging.exceptions import DeliveryError

# Rows of a read that may be long: while one is open, SQLite does not empty its log.
_PAGE_ROWS = 200

# By name: another version may have added some.
_COLUMNS = {"events": ", ".join(Row._fields), "dead": ", ".join(Letter._fields)}


def insert(
    connection: sqlite3.Connection, event: int, body: bytes, at: float | None = None
) -> None:
    """
    Write an event, as of a time (`None`: now); it is on disk when this returns.

    Raises:
        sqlite3.IntegrityError: The id is taken; nothing was written.
    """
    values = (event, time.time() if at is None else at, checksum_of(event, body), body)
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", values)


def page(  # noqa: PLR0913
    connection: sqlite3.Connection,
    first: int,
    last: int,
    *,
    max_count: int = -1,
    max_bytes: float = math.inf,
    before: float = math.inf,
    alone: bool = True,
) -> Page:
    """
    Return the oldest events of a range of ids, both ends included.

    Args:
        connection: To read with.
        first: The first id.
        last: The last id.
        max_count: Rows at most; -1: all.
        max_bytes: Bytes at most, a comma for each included. A larger one comes alone.
        before: The time in seconds at which the next one is too young, and all that
            follow it.
        alone: Whether one that is larger than `max_bytes` comes, by itself.
    """
    ids: list[int] = []
    events: list[bytes] = []
    damaged: list[int] = []
    query = (
        "SELECT id, at, crc, body FROM events WHERE id BETWEEN ? AND ?"
        " ORDER BY id LIMIT ?"
    )
    # Closed before others may read: a checkpoint is refused beside an open one.
    with closing(connection.execute(query, (first, last, max_count))) as rows:
        for event, at, crc, body in _forwards(rows, first):
            if not is_sound(event, crc, body):
                damaged.append(event)
                continue
            max_bytes -= len(body) + 1
            if is_younger(at, before) or (max_bytes < 0 and (events or not alone)):
                break
            ids.append(event)
            events.append(body)
        else:
            return Page(ids, events, damaged, max_count != len(ids) + len(damaged))
    return Page(ids, events, damaged, is_all=False)


def _forwards(
    found: Iterable[tuple[Any, ...]], first: int
) -> Iterator[tuple[Any, ...]]:
    """
    Yield rows whose ids grow.

    Raises:
        sqlite3.DatabaseError: The tree is damaged and leads back, perhaps without end.
    """
    for row in found:
        if row[0] < first:
            raise sqlite3.DatabaseError("database disk image is malformed")
        first = row[0] + 1
        yield row


def span(connection: sqlite3.Connection, owner: int) -> tuple[int, int] | None:
    """Return an owner's first and last number; `None`: there are no events."""
    # Each query alone looks at one end of the key; one for both would read all rows.
    first = "SELECT min(id) FROM events WHERE id BETWEEN ? AND ?"
    last = last_of(connection, owner)
    (found,) = connection.execute(first, ends_of(owner)).fetchone()
    # A command may have taken them out between the two.
    return (found & MAX_SEQ, last) if last and found is not None else None


def next_owner(connection: sqlite3.Connection, owner: int) -> int | None:
    """Return the next owner that has events; `None`: there is none."""
    query = "SELECT min(id) FROM events WHERE id > ?"
    last = id_of(owner, MAX_SEQ)
    found = connection.execute(query, (last,)).fetchone()
    if found == (None,):
        return None
    ((event,),) = _forwards([found], last + 1)
    return int(event) >> SEQ_BITS


def written_at(connection: sqlite3.Connection, event: int) -> float:
    """Return the time at which an event was written; infinite: it is not there."""
    query = "SELECT at FROM events WHERE id = ?"
    found = connection.execute(query, (event,)).fetchone()
    return found[0] if found and isinstance(found[0], float) else math.inf


def delete(connection: sqlite3.Connection, ids: Sequence[int]) -> int:
    """Take events out; return how many."""
    query = "DELETE FROM events WHERE id BETWEEN ? AND ?"
    return connection.executemany(query, runs(ids)).rowcount


def bury(
    connection: sqlite3.Connection,
    ids: Sequence[int],
    failure: DeliveryError,
    at: float | None = None,
) -> None:
    """Make dead letters of events, as of a time; `None`: now."""
    query = (
        "INSERT INTO dead (at, failed_at, status, code, message, tries, event, crc,"
        " body) SELECT at, ?, ?, ?, ?, ?, id, crc, body FROM events"
        " WHERE id BETWEEN ? AND ? ORDER BY id"
    )
    why = _why(failure, at)
    connection.executemany(query, [(*why, *run) for run in runs(ids)])
    delete(connection, ids)


def _why(failure: DeliveryError, at: float | None = None) -> tuple[Any, ...]:
    now = time.time() if at is None else at
    return now, failure.status, failure.code, failure.message, failure.tries


def set_aside(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Move damaged rows to a table from which nothing is sent."""
    query = (
        "INSERT INTO damaged (found_at, event, body)"
        " SELECT ?, id, body FROM events WHERE id BETWEEN ? AND ?"
    )
    now = time.time()
    connection.executemany(query, [(now, *run) for run in runs(ids)])
    delete(connection, ids)


def drop_dead(
    connection: sqlite3.Connection, count: int, before: float | None = None
) -> int:
    """Take out the oldest dead letters, or those of before a time; return how many."""
    for table, at in (("damaged", "found_at"), ("dead", "failed_at")):
        query = (
            f"DELETE FROM {table} WHERE id IN"
            f" (SELECT id FROM {table} WHERE ? IS NULL OR {at} < ?"
            " ORDER BY id LIMIT ?)"
        )
        if gone := connection.execute(query, (before, before, count)).rowcount:
            return gone
    return 0


def clock(connection: sqlite3.Connection) -> tuple[bytes, float] | None:
    """Return the boot in which the clock was last believed, and when that boot began."""
    # In a damaged file the value may be no time any more: then it counts as missing.
    query = "SELECT boot, started FROM clock WHERE typeof(started) = 'real' AND abs(started) < 1e11"
    return next(connection.execute(query), None)


def set_clock(
    connection: sqlite3.Connection, boot: str, started: float, *behind: float
) -> None:
    """Write down what `clock` returns; what was logged while it was behind is no older."""
    connection.execute("REPLACE INTO clock VALUES (1, ?, ?)", (boot, started))
    if behind:
        query = "UPDATE events SET at = at + ? WHERE at BETWEEN ? AND ?"
        connection.execute(query, (behind[2], *behind[:2]))


def rows(
    connection: sqlite3.Connection, first: int = -MAX_ID, last: int = MAX_ID
) -> Iterator[Row]:
    """Yield the events of a range of ids in their order; damaged rows included."""
    query = (
        "SELECT id, at, crc, body FROM events WHERE id BETWEEN ? AND ?"
        " ORDER BY id LIMIT ?"
    )
    while found := connection.execute(query, (first, last, _PAGE_ROWS)).fetchall():
        yield from map(Row._make, _forwards(found, first))
        first = found[-1][0] + 1


def letters(connection: sqlite3.Connection) -> Iterator[Letter]:
    """Yield the dead letters in their order; those that are damaged included."""
    last = -MAX_ID
    while found := some(connection, "dead", last, _PAGE_ROWS):
        yield from map(Letter._make, _forwards(found, last + 1))
        last = found[-1][0]


def row(connection: sqlite3.Connection, event: int) -> Row | None:
    """Return a waiting event; `None`: it is not there."""
    return next(rows(connection, event, event), None)


def letter(connection: sqlite3.Connection, number: int) -> Letter | None:
    """Return a dead letter; `None`: it is not there."""
    found = some(connection, "dead", number - 1, 1)
    return Letter._make(found[0]) if found and found[0][0] == number else None


def letters_by_status(
    connection: sqlite3.Connection, last: int
) -> list[tuple[int | None, int]]:
    """Return each status of dead letters up to a number, and how many have it."""
    query = "SELECT status, count(*) FROM dead WHERE id <= ? GROUP BY status"
    return connection.execute(query, (last,)).fetchall()


def reasons(connection: sqlite3.Connection) -> list[Reason]:
    """Return why there are dead letters, the most frequent reason first."""
    # The message is that of the row with the latest time: SQLite, "bare columns".
    query = (
        "SELECT status, code, count(*), max(failed_at), message FROM dead"
        " GROUP BY status, code ORDER BY 3 DESC"
    )
    return [Reason._make(found) for found in connection.execute(query)]


def sum_of_owner(connection: sqlite3.Connection, owner: int) -> Sum:
    """Return what an owner's events amount to."""
    query = _SUMS + "events WHERE id BETWEEN ? AND ?"
    return Sum._make(connection.execute(query, ends_of(owner)).fetchone())


def sum_of_dead(connection: sqlite3.Connection) -> Sum:
    """Return what the dead letters amount to."""
    return Sum._make(connection.execute(_SUMS + "dead").fetchone())


_SUMS = "SELECT count(*), coalesce(sum(length(body)), 0), min(at), max(at) FROM "


def count(connection: sqlite3.Connection, table: str) -> int:
    """Return how many rows a table has: `events`, `dead` or `damaged`."""
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def ids_of(connection: sqlite3.Connection, table: str) -> list[int]:
    """Return the ids of all rows of a table."""
    return [found for (found,) in connection.execute(f"SELECT id FROM {table}")]


def delete_letters(connection: sqlite3.Connection, numbers: Iterable[int]) -> int:
    """Take dead letters out; return how many."""
    query = "DELETE FROM dead WHERE id = ?"
    return connection.executemany(query, [(n,) for n in numbers]).rowcount


def delete_damaged(connection: sqlite3.Connection) -> int:
    """Take out all rows that were set aside; return how many."""
    return connection.execute("DELETE FROM damaged").rowcount


def refuse_again(
    connection: sqlite3.Connection, numbers: Iterable[int], failure: DeliveryError
) -> None:
    """Write down why dead letters were refused once more."""
    query = (
        "UPDATE dead SET failed_at = ?, status = ?, code = ?, message = ?,"
        " tries = tries + ? WHERE id = ?"
    )
    connection.executemany(query, [(*_why(failure), number) for number in numbers])


def forget_answers(connection: sqlite3.Connection, texts: Iterable[str]) -> None:
    """Take out the servers' sentences, which may quote any event, and codes with a text."""
    connection.execute("UPDATE dead SET message = '' WHERE message != ''")
    query = "UPDATE dead SET code = '' WHERE status >= 0 AND instr(code, ?)"
    connection.executemany(query, [(text,) for text in texts])


def rows_between(connection: sqlite3.Connection, first: int, last: int) -> list[Row]:
    """Return the events with ids from the first to the last."""
    return list(rows(connection, first, last))


def last_of(connection: sqlite3.Connection, owner: int) -> int:
    """Return the number of an owner's last event; 0: there is none."""
    query = "SELECT max(id) FROM events WHERE id BETWEEN ? AND ?"
    (found,) = connection.execute(query, ends_of(owner)).fetchone()
    return 0 if found is None else found & MAX_SEQ


def delete_settled(
    connection: sqlite3.Connection, owner: int, taken: int, claimed: Iterable[int]
) -> None:
    """Take out an owner's events up to a number, but those that are being sent."""
    kept = set(claimed)
    found = rows(connection, id_of(owner, 0), id_of(owner, taken))
    delete(connection, [row.id for row in found if row.id not in kept])


def some(
    connection: sqlite3.Connection, table: str, after: int, count: int
) -> list[tuple[Any, ...]]:
    """Return rows of `events` or `dead` behind an id, in their order."""
    query = f"SELECT {_COLUMNS[table]} FROM {table} WHERE id > ? ORDER BY id LIMIT ?"
    return connection.execute(query, (after, count)).fetchall()


def add_all(
    connection: sqlite3.Connection, table: str, found: Sequence[tuple[Any, ...]]
) -> int:
    """Write whole rows, but those whose id is taken; return how many."""
    marks = ", ".join("?" * len(found[0]))
    query = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"
    return connection.executemany(query, found).rowcount
