"""Take events and dead letters out of a spool: by choice, or to the last byte."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from typing import Any, NamedTuple

from htlogging._process.clock import clock
from htlogging._queue.spool import pragmas, statements
from htlogging._queue.spool.admin import SpoolError
from htlogging._queue.spool.rows import id_of, owner_of
from htlogging._queue.spool.schema import ERRORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from htlogging._queue.spool.admin import SpoolView
    from htlogging._queue.spool.rows import Letter, Row

# Rows of a write, which others wait for.
_SOME = 500

_DIGITS = 18  # of a number that SQLite holds for sure

_SHOWN = 5  # ids in a line


def row_of(text: str) -> tuple[str, int]:
    """Return the table and the key of the event that is listed with this id."""
    owner, dot, seq = text.partition(".")
    if dot:
        event = id_of(_number(owner), _number(seq))
        return "events", event if event < 2**63 else -1
    return "dead", _number(text)


def name_of(event: int) -> str:
    """Return the id under which a waiting event is listed."""
    return "{}.{}".format(*owner_of(event))


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
            "userId": frozenset(map(_as_stored, users)),
            "anonymousId": frozenset(map(_as_stored, anonymous)),
            "previousId": frozenset(map(_as_stored, [*users, *anonymous])),
        }

    @property
    def ids(self) -> frozenset[str]:
        """All ids."""
        return self._wanted["previousId"]

    def owns(self, body: bytes) -> bool:
        """
        Return whether an event is the user's; one that cannot be read may be.

        An id that a formatter made a number, or put in a list or an object, counts.
        """
        return self.match(body)[0]

    def match(self, body: bytes) -> tuple[bool, bool]:
        """Return whether an event is the user's, and whether an id is text in it."""
        try:
            event = json.loads(
                body,
                parse_int=_Number,
                parse_float=_Number,
                object_pairs_hook=_Object,
            )
            if not isinstance(event, _Object):
                return True, True
            for name, value in event:
                if name in self._wanted and self._wanted[name] & set(_texts(value)):
                    return True, True
            return False, any(
                text in self.ids
                for text in _texts(event)
                if not isinstance(text, _Number)
            )
        except (ValueError, RecursionError):
            return True, True


class _Object(list[Any]):
    """A JSON object's names and values: a name may be there twice."""


class _Number(str):
    """A JSON number as it is written: 1.10 is not 1.1 then."""

    __slots__ = ()


def _as_stored(text: str) -> str:
    """Return an id as an event has it: bytes that are no UTF-8 are U+FFFD there."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _texts(value: Any) -> Iterable[str]:
    """Yield a value, or all that are in it, as text; numbers as `_Number`."""
    if isinstance(value, _Object):
        for name, item in value:
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, _Number):
        yield value
        if not value.lstrip("-").isdecimal():
            # As Python has it, and as the whole number that it may be: 1.0 and 1.
            number = float(value)
            yield _Number(number)
            if number.is_integer():
                yield _Number(int(number))
    elif isinstance(value, str):
        yield value
    elif value is not None:
        # As JSON has it, and as Python: true and True.
        yield _Number(json.dumps(value))
        yield _Number(value)


def forget(view: SpoolView, user: User, *, dry_run: bool) -> tuple[int, int]:
    """
    Delete a user's events, leaving no trace of them in the file or its log.

    Events that come in meanwhile may stay. With the user's go what the server said of
    other events, which may name the user, and rows that are damaged.

    Returns:
        How many waiting events and dead letters were found.

    Raises:
        SpoolError: They are deleted, but something may be left, or others' events have
            an id in them; the message says what.
    """
    # What is deleted is overwritten with zeros; for this connection alone.
    view.connection.execute("PRAGMA secure_delete = ON").fetchall()
    # Not by owner: in a damaged file a row may have an id that no owner has.
    events = _sorted(view.read(statements.rows), user)
    letters = _sorted(view.letters(), user)
    if dry_run:
        return len(events.own), len(letters.own)
    _delete(view, statements.delete, events.damaged)
    _delete(view, statements.delete_letters, letters.damaged)
    waiting = _delete(view, statements.delete, events.own)
    dead = _delete(view, statements.delete_letters, letters.own)
    _rewrite_file(view, user)
    if named := [*map(name_of, events.named), *map(str, letters.named)]:
        more = ", ..." if len(named) > _SHOWN else ""
        raise SpoolError(
            "removed; but events of others mention the id, in a property perhaps: see "
            f"{', '.join(named[:_SHOWN])}{more} (`spool show`, `spool drop --id`)"
        )
    return waiting, dead


class _Sorted(NamedTuple):
    """Keys of rows: a user's, those that are damaged, and others that name the user."""

    own: list[int]
    damaged: list[int]
    named: list[int]


def _sorted(rows: Iterable[Row | Letter], user: User) -> _Sorted:
    found = _Sorted([], [], [])
    for row in rows:
        if not row.is_sound():
            found.damaged.append(row.id)
            continue
        owned, named = user.match(row.body)
        if owned:
            found.own.append(row.id)
        elif named:
            found.named.append(row.id)
    return found


def _rewrite_file(view: SpoolView, user: User) -> None:
    """Rewrite the file, so that nothing of deleted rows is left in it."""
    # Rows that were delivered and deleted before, not overwritten then, are in free
    # pages and in gaps of others: VACUUM writes all pages anew. The log still has the
    # old ones, and is copied and emptied then. Nothing is copied to another place:
    # see `temp_store`, in `SpoolView`.
    why = ""
    try:
        view.remove_unfinished()
        view.change(statements.forget_answers, user.ids)
        view.change(statements.delete_damaged)
        view.connection.execute("VACUUM")
        if not _empty_log(view):
            why = "another process is reading"
    except ERRORS as exc:
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
    deadline = clock.monotonic() + view.busy
    while not view.read(pragmas.copy_log, "TRUNCATE"):
        # SQLite waits for readers, but not for another one who copies the log.
        if clock.monotonic() >= deadline:
            return False
        threading.Event().wait(0.05)
    return True


def _delete(view: SpoolView, remove: Any, keys: Sequence[int]) -> int:
    """Delete rows, some at a time; return how many were still there."""
    count = 0
    for start in range(0, len(keys), _SOME):
        if remove is statements.delete:
            view.note_settled(keys[start : start + _SOME])
        count += view.change(remove, keys[start : start + _SOME])
    return count
