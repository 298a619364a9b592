"""The statements on a spool's rows: events that wait, and dead letters."""

from __future__ import annotations

import math
import time
from contextlib import closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._queue.spool.database import SpoolFile
    from htlogging.exceptions import DeliveryError

# An owner's events, by number: from one to another, both included.
_THESE = "FROM events WHERE owner = ? AND seq BETWEEN ? AND ?"
_PAGE = f"SELECT seq, at, body {_THESE} ORDER BY seq LIMIT ?"
_DELETE = f"DELETE {_THESE}"
_BURY = (
    "INSERT INTO dead (failed_at, status, code, message, tries, at, body)"
    f" SELECT ?, ?, ?, ?, ?, at, body {_THESE}"
)
# Each by itself is a look at one end of the primary key; together they would count.
_SPAN = (
    "SELECT (SELECT min(seq) FROM events WHERE owner = ?),"
    " (SELECT max(seq) FROM events WHERE owner = ?)"
)
_OLDEST_DEAD = (
    "DELETE FROM dead WHERE id IN"
    " (SELECT id FROM dead WHERE failed_at < ? ORDER BY id LIMIT ?)"
)


def insert(file: SpoolFile, owner: int, seq: int, event: bytes) -> None:
    """Write an event; it is on disk when this returns."""
    query = "INSERT INTO events VALUES (?, ?, ?, ?)"
    file.write(query, owner, seq, time.time(), event)


def page(  # noqa: PLR0913
    file: SpoolFile,
    owner: int,
    first: int,
    last: int,
    *,
    max_count: int = -1,
    max_bytes: float = math.inf,
    before: float = math.inf,
) -> tuple[list[int], list[bytes]]:
    """
    Return an owner's oldest events, and their numbers.

    Args:
        file: Where they are.
        owner: Whose.
        first: The first number.
        last: The last number.
        max_count: Events at most; -1: all.
        max_bytes: Bytes at most, a comma for each included. A larger one comes alone.
        before: The time at which the next one is too young, and all that follow it.
    """
    seqs: list[int] = []
    events: list[bytes] = []
    with file.reading() as connection:
        # Closed before others may read: a checkpoint is refused beside an open one.
        rows = connection.execute(_PAGE, (owner, first, last, max_count))
        with closing(rows):
            for seq, at, body in rows:
                max_bytes -= len(body) + 1
                if at >= before or (max_bytes < 0 and events):
                    break
                seqs.append(seq)
                events.append(body)
    return seqs, events


def span(file: SpoolFile, owner: int) -> tuple[int, int] | None:
    """Return an owner's first and last number; `None`: there are no events."""
    ((first, last),) = file.read(_SPAN, owner, owner)
    return None if first is None else (first, last)


def written_at(file: SpoolFile, owner: int, seq: int) -> float:
    """Return the time at which an event was written; infinite: it is not there."""
    query = "SELECT at FROM events WHERE owner = ? AND seq = ?"
    rows = file.read(query, owner, seq)
    return float(rows[0][0]) if rows else math.inf


def delete(file: SpoolFile, owner: int, first: int, last: int) -> None:
    """Take events out."""
    file.write(_DELETE, owner, first, last)


def bury(
    file: SpoolFile, owner: int, first: int, last: int, failure: DeliveryError
) -> None:
    """Make dead letters of events."""
    why = (failure.status, failure.code, failure.message, failure.tries)
    with file.transaction() as connection:
        connection.execute(_BURY, (time.time(), *why, owner, first, last))
        connection.execute(_DELETE, (owner, first, last))


def drop_dead(file: SpoolFile, count: int, before: float = math.inf) -> int:
    """Take out the oldest dead letters, of before a time; return how many."""
    return file.write(_OLDEST_DEAD, before, count)
