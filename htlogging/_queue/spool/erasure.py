"""Take events and dead letters out of a spool: by choice, or to the last byte."""

from __future__ import annotations

import json
import sqlite3
import threading
import time

from htlogging._command_error import Failed
from htlogging._queue.spool import admin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView

# Rows of a write, which others wait for.
_SOME = 500

_DIGITS = 18  # of a number that SQLite holds for sure

_DELETE = {
    "events": "DELETE FROM events WHERE owner = ? AND seq = ?",
    "dead": "DELETE FROM dead WHERE id = ?",
}


def row_of(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the table and the key of the event that is listed with this id."""
    owner, dot, seq = text.partition(".")
    if dot:
        return "events", (_number(owner), _number(seq))
    return "dead", (_number(text),)


def _number(text: str) -> int:
    # No row has one below zero, nor one that SQLite cannot hold.
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else -1


def drop_waiting(view: SpoolView) -> int:
    """Delete all events that wait now; return how many."""
    query = "SELECT owner, seq FROM events WHERE owner = ?"
    keys = [key for owner in view.owners() for key in view.read(query, owner)]
    return _delete(view, "events", keys)


def drop_dead(view: SpoolView) -> int:
    """Delete all dead letters that are there now; return how many."""
    return _delete(view, "dead", view.read("SELECT id FROM dead"))


def drop_ids(view: SpoolView, ids: Iterable[str]) -> int:
    """
    Delete the rows with these ids: all of them, or none.

    Raises:
        Failed: One is not there.
    """
    count = 0
    with view.transaction() as connection:
        for text in dict.fromkeys(ids):
            table, key = row_of(text)
            found = connection.execute(_DELETE[table], key).rowcount
            if not found:
                raise Failed(f"there is no event {text}; nothing was dropped")
            count += found
    return count


class User:
    """
    Whose events are to be forgotten.

    Args:
        users: Values of `userId`, and of an alias's `previousId`.
        anonymous: Values of `anonymousId`, and of an alias's `previousId`.
    """

    def __init__(self, users: Collection[str], anonymous: Collection[str]) -> None:
        self._wanted = {
            "userId": frozenset(users),
            "anonymousId": frozenset(anonymous),
            "previousId": frozenset([*users, *anonymous]),
        }

    def owns(self, body: bytes) -> bool:
        """Tell whether an event is his."""
        event = json.loads(body)
        return any(event.get(name) in ids for name, ids in self._wanted.items())


def forget(view: SpoolView, user: User, *, dry_run: bool) -> tuple[int, int]:
    """
    Delete a user's events, leaving no trace of them in the file or its log.

    Events that come in meanwhile may stay.

    Returns:
        How many waiting events and dead letters were found.

    Raises:
        Failed: They are deleted, but not overwritten; try again.
    """
    # What is deleted is overwritten with zeros; for this connection alone.
    view.connection.execute("PRAGMA secure_delete = ON").fetchall()
    waiting = dead = 0
    for owner in view.owners():
        keys: list[Any] = []
        for number, seq, _, body in view.events(owner):
            if user.owns(body):
                keys.append((number, seq))
        waiting += len(keys) if dry_run else _delete(view, "events", keys)
    letters = [(row[0],) for row in view.letters() if user.owns(row[-1])]
    dead += len(letters) if dry_run else _delete(view, "dead", letters)
    if not dry_run:
        _scour(view)
    return waiting, dead


def _scour(view: SpoolView) -> None:
    """Have the file hold rows that are there, and nothing of those that are not."""
    # Rows that were delivered and deleted before, not overwritten then, are in free
    # pages and in gaps of others: VACUUM writes all pages anew. The log still has the
    # old ones, and is copied and emptied then.
    try:
        view.connection.execute("VACUUM")
        why = "" if _empty_log(view) else "another process is reading"
    except sqlite3.Error as exc:
        why = str(exc)
    if why:
        raise Failed(
            f"removed, but what was deleted could not be overwritten ({why}); "
            "run this again"
        )


def _empty_log(view: SpoolView) -> bool:
    """Copy the log and cut it to nothing; `False`: others use it all the time."""
    deadline = time.monotonic() + admin.BUSY
    while view.read("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
        # SQLite waits for readers, but not for another one who copies the log.
        if time.monotonic() >= deadline:
            return False
        threading.Event().wait(0.05)
    return True


def _delete(view: SpoolView, table: str, keys: list[Any]) -> int:
    """Delete rows, some at a time; return how many were there still."""
    count = 0
    for start in range(0, len(keys), _SOME):
        with view.transaction() as connection:
            done = connection.executemany(_DELETE[table], keys[start : start + _SOME])
            count += done.rowcount
    return count
