"""A spool that was damaged: kept aside, and read as far as SQLite still can."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple

from htlogging._queue.spool import connections, location, pragmas, schema, statements
from htlogging._queue.spool.rows import Letter, Row
from htlogging._queue.spool.schema import ERRORS
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# A file, and what SQLite may have put beside it.
_FILES = ("", "-wal", "-shm", "-journal")

# Rows that are written at a time.
_SOME = 500

# Ids that are left out where a row cannot be read, one after the other: pages that are
# damaged hold a few rows each, and owners' ids lie far apart.
_END = 2**63 - 1
_HOPS = tuple(2**n for n in range(62))


class Found(NamedTuple):
    """What was read from a damaged file."""

    events: int
    letters: int
    unsound: int  # rows that are not what was written
    kept_as: str  # the name of the damaged file now

    def __str__(self) -> str:
        return (
            f"{self.events} waiting events and {self.letters} dead letters were read "
            f"from it, {self.unsound} were damaged; it is kept as {self.kept_as}"
        )


def salvage(path: str, readers: Sequence[sqlite3.Connection]) -> Found:
    """
    Put a new file, with what can be read, in a damaged one's place.

    No other process opens either meanwhile. Cut short, it is done again, or `finish` does
    what is left.

    Args:
        path: Of the file.
        readers: What reads it, if it is open; each may know more.

    Raises:
        sqlite3.Error, OSError, InvalidSetting: The new file cannot be made.
    """
    new = f"{path}.new"
    remove(new)
    location.make(new)
    # In a shared folder another user may have put a file or a link there meanwhile.
    location.check_owner(new)
    with closing(connections.connect(new)) as writer:
        schema.set_up(writer)
        events, letters = _Copy("events", Row), _Copy("dead", Letter)
        writer.execute("BEGIN IMMEDIATE")
        with ExitStack() as stack:
            for reader in readers or _opened(path, stack):
                events.write(writer, reader)
                letters.write(writer, reader)
        writer.execute("COMMIT")
        pragmas.copy_log(writer, "TRUNCATE")
    kept = keep(path)
    os.rename(new, path)
    remove(new)
    unsound = len(events.unsound | letters.unsound)
    return Found(events.count, letters.count, unsound, kept)


def _opened(path: str, stack: ExitStack) -> list[sqlite3.Connection]:
    """
    Return what reads a file that is no spool any more by its header, say.

    It changes nothing in it.
    """
    try:
        reader = connections.connect(path, read_only=True)
    except ERRORS:
        return []
    stack.callback(connections.close, reader)
    return [reader]


def finish(path: str) -> None:
    """
    Finish what was cut short, or remove what it has left; no other process opens it.

    Between the two renames the new file is whole and the damaged one has another name.
    """
    new = f"{path}.new"
    if not any(os.path.lexists(new + suffix) for suffix in _FILES):
        return
    with suppress(OSError, InvalidSetting):  # another user's, perhaps: not ours to use
        location.check_owner(new)
        # It is marked by a transaction, and its log copied and emptied last.
        is_whole = location.is_marked(new) and not location.has_log(new)
        if is_whole and not os.path.lexists(path):
            if location.has_log(path):
                keep(path)
            os.rename(new, path)
        remove(new)


def remove(path: str) -> None:
    """Delete a file, with its log."""
    for suffix in _FILES:
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)


def keep(path: str) -> str:
    """Rename the file and its log; return its name now."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept, number = f"{path}.damaged-{when}", 1
    while os.path.lexists(kept):
        number += 1
        kept = f"{path}.damaged-{when}-{number}"
    for suffix in ("", "-wal", "-shm"):
        # First the file itself: a log without one is never taken for a whole spool.
        with suppress(FileNotFoundError):
            os.rename(path + suffix, kept + suffix)
    return os.path.basename(kept)


class _Copy:
    """One table's rows, on their way from a damaged file to a new one."""

    def __init__(
        self,
        table: str,
        make: Callable[..., Row | Letter],
    ) -> None:
        self._table = table
        self._make = make
        self.count = 0
        self.unsound: set[tuple[str, int]] = set()
        self._last: int = -1  # the id that was read last

    def write(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        """Copy what can be read."""
        rows: list[tuple[object, ...]] = []
        for found in self._read(reader):
            row = self._make(*found)
            if not row.is_sound():
                self.unsound.add((self._table, row.id))
                continue
            rows.append(row)
            if len(rows) >= _SOME:
                self._insert(writer, rows)
        self._insert(writer, rows)

    def _insert(
        self, writer: sqlite3.Connection, rows: list[tuple[object, ...]]
    ) -> None:
        if rows:
            self.count += statements.add_all(writer, self._table, rows)
            rows.clear()

    def _read(self, reader: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
        """Yield rows in their order, going on behind what cannot be read."""
        at: int | None = -1
        while at is not None:
            self._last = at
            # Many at a time; then one by one up to the row that stands in the way.
            for count in (100, 1):
                yield from self._read_on(reader, count)
            at = self._behind(reader)

    def _read_on(
        self, reader: sqlite3.Connection, count: int
    ) -> Iterator[tuple[object, ...]]:
        """Yield rows until there are no more, or SQLite cannot go on."""
        with suppress(*ERRORS):
            while rows := statements.some(reader, self._table, self._last, count):
                for row in rows:
                    if row[0] <= self._last:
                        return  # the tree leads back
                    self._last = row[0]
                    yield row

    def _behind(self, reader: sqlite3.Connection) -> int | None:
        """Return an id from which reading goes on; `None`: there is none."""
        for step in _HOPS:
            at: int = self._last + step
            with suppress(*ERRORS):
                if at < _END and statements.some(reader, self._table, at, 1):
                    return at
        return None
