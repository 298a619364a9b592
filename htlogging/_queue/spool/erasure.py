"""Take events and dead letters out of a spool: by choice, or to the last byte."""

from __future__ import annotations

import json
import os
import sqlite3
import threading

from htlogging._process.clock import clock
from htlogging._queue.spool import admin, statements
from htlogging._queue.spool.admin import SpoolError
from htlogging._queue.spool.rows import id_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView

# Rows of a write, which others wait for.
_SOME = 500

_DIGITS = 18  # of a number that SQLite holds for sure


def row_of(text: str) -> tuple[str, int]:
    """Return the table and the key of the event that is listed with this id."""
    owner, dot, seq = text.partition(".")
    if dot:
        event = id_of(_number(owner), _number(seq))
        return "events", event if event < 2**63 else -1
    return "dead", _number(text)


def _number(text: str) -> int:
    # No row has one below zero, nor one that SQLite cannot hold.
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else -1


def drop_waiting(view: SpoolView) -> int:
    """Delete all events that wait now; return how many."""
    return _delete(view, statements.delete, view.read(statements.ids_of, "events"))


def drop_dead(view: SpoolView) -> int:
    """Delete all dead letters that are there now; return how many."""
    view.change(statements.delete_damaged)
    return _delete(
        view, statements.delete_letters, view.read(statements.ids_of, "dead")
    )


def drop_ids(view: SpoolView, ids: Iterable[str]) -> int:
    """
    Delete the rows with these ids: all of them, or none.

    Raises:
        SpoolError: One is not there.
    """

    def drop(connection: sqlite3.Connection) -> int:
        count = 0
        for text in dict.fromkeys(ids):
            table, key = row_of(text)
            remove = statements.delete_letters if table == "dead" else statements.delete
            if table == "events" and statements.row(connection, key):
                view.note_settled([key])
            found = remove(connection, [key])
            if not found:
                raise SpoolError(f"there is no event {text}; nothing was dropped")
            count += found
        return count

    return view.change(drop)


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
        """
        Return whether an event is the user's; one that cannot be read may be.

        An id that a formatter made a number, or put in a list or an object, counts.
        """
        try:
            event = json.loads(body)
            return any(
                ids & set(_texts(event.get(name))) for name, ids in self._wanted.items()
            )
        except (ValueError, AttributeError, RecursionError, TypeError):
            return True


def _texts(value: Any) -> Iterable[str]:
    """Yield a value, or all that are in it, as text."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        # As JSON has it, and as Python: 1.0 and 1, true and True.
        yield json.dumps(value)
        yield str(value)
        if isinstance(value, float) and value.is_integer():
            yield str(int(value))


def forget(view: SpoolView, user: User, *, dry_run: bool) -> tuple[int, int]:
    """
    Delete a user's events, leaving no trace of them in the file or its log.

    Events that come in meanwhile may stay. With them go what the server said of other
    events, which may name the user, and rows that are damaged.

    Returns:
        How many waiting events and dead letters were found.

    Raises:
        SpoolError: They are deleted, but something may be left; the message says what.
    """
    # What is deleted is overwritten with zeros; for this connection alone.
    view.connection.execute("PRAGMA secure_delete = ON").fetchall()
    waiting = 0
    for owner in view.owners():
        keys = [row.id for row in view.events(owner) if user.owns(row.body)]
        waiting += len(keys) if dry_run else _delete(view, statements.delete, keys)
    letters = [letter.id for letter in view.letters() if user.owns(letter.body)]
    if dry_run:
        return waiting, len(letters)
    dead = _delete(view, statements.delete_letters, letters)
    _scour(view)
    return waiting, dead


def _scour(view: SpoolView) -> None:
    """Have the file hold rows that are there, and nothing of those that are not."""
    # Rows that were delivered and deleted before, not overwritten then, are in free
    # pages and in gaps of others: VACUUM writes all pages anew. The log still has the
    # old ones, and is copied and emptied then. Nothing is copied to another place:
    # see `temp_store`, in `SpoolView`.
    why = ""
    try:
        view.change(statements.forget_messages)
        view.change(statements.delete_damaged)
        view.connection.execute("VACUUM")
        if not _empty_log(view):
            why = "another process is reading"
    except sqlite3.Error as exc:
        why = str(exc)
    if why:
        raise SpoolError(
            f"removed, but what was deleted could not be overwritten ({why}); "
            "run this again"
        )
    if kept := view.kept_aside():
        folder = os.path.dirname(view.path)
        raise SpoolError(
            "removed; but files that were damaged, and kept beside the spool, may hold "
            f"more: delete {', '.join(kept)} in {folder}, then run this again"
        )


def _empty_log(view: SpoolView) -> bool:
    """Copy the log and cut it to nothing; `False`: others use it all the time."""
    deadline = clock.monotonic() + admin.BUSY
    while not view.read(statements.copy_log, "TRUNCATE"):
        # SQLite waits for readers, but not for another one who copies the log.
        if clock.monotonic() >= deadline:
            return False
        threading.Event().wait(0.05)
    return True


def _delete(view: SpoolView, remove: Any, keys: Sequence[int]) -> int:
    """Delete rows, some at a time; return how many were there still."""
    count = 0
    for start in range(0, len(keys), _SOME):
        if remove is statements.delete:
            view.note_settled(keys[start : start + _SOME])
        count += view.change(remove, keys[start : start + _SOME])
    return count
