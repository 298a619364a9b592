"""
The one place where SQLite's connections of this process are opened and closed.

None may cross a fork (sqlite.org/howtocorrupt.html, 2.6), not even to be closed by the
garbage collector. So each is listed here before it is opened, and a fork closes all
that are listed; the next statement opens them again, in the parent and in the child.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import suppress
from urllib.parse import quote

from htlogging._process.interruption import Ignored
from htlogging._queue.spool import location
from htlogging._queue.spool.lockfile import identity
from htlogging._queue.spool.schema import BUSY, ERRORS, SpoolUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Seconds in which a child's SQLite must have answered.
_PROBE = 2.0


class Connection(sqlite3.Connection):
    """A connection that a fork closes."""

    def __init__(self, *args: object, **options: object) -> None:
        _open.add(self)
        super().__init__(*args, **options)  # type: ignore[arg-type]


# All that are open, or were. Changed by atomic operations.
_open: weakref.WeakSet[sqlite3.Connection] = weakref.WeakSet()

# Those of a parent, where Python was not told of the fork, and those whose descriptors
# were closed under them and are other files' now. Kept for ever, unused: closing one
# would undo the locks of, or write to, what is not ours.
_lost: list[sqlite3.Connection] = []

_UNTOLD = (
    "the process was forked without Python being told, after its first event; uWSGI has "
    "py-call-uwsgi-fork-hooks for that"
)
_AMID_WORK = "the process was forked while another thread used the spool for long"
_FOREIGN = "another user has put a file beside it"
_CLOSED = "the spool's descriptors were closed, and their numbers are other files' now"
_why_lost = ""

# Whether all were closed before the last fork that Python was told of.
_are_idle = True

# How SQLite is here: not forked; a child that has not used SQLite yet; a child whose
# SQLite was copied in the middle of something and will never answer.
_NONE, _UNPROBED, _DEAD = range(3)
_state = _NONE


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """
    Open a file that is there; text in it is given as bytes, whatever it holds.

    Raises:
        SpoolUnavailable: SQLite cannot be used in this process.
        sqlite3.Error: The file cannot be opened.
    """
    if _lost:
        raise SpoolUnavailable(_why_lost)
    if _state != _NONE:
        _probe(path)
    connection = _connect(path, read_only=read_only)
    with suppress(*ERRORS):
        # Now it has opened the log, too. Between a look and this, another process may
        # have closed the file, and SQLite deleted the log.
        connection.execute("PRAGMA schema_version").fetchone()
    if location.is_anothers_beside(path):
        # Never closed: that would copy what is in the log into the file.
        lose(connection, _FOREIGN)
        raise SpoolUnavailable(_FOREIGN)
    return connection


def _connect(path: str, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        # Unlike the default, it makes no file.
        f"file:{quote(os.fsencode(path))}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    # A row whose type or encoding has changed must cost itself, not those beside it.
    connection.text_factory = bytes
    return connection


def _probe(path: str) -> None:
    """
    Use SQLite for the first time in a forked child, on a thread of its own.

    Another thread of the parent, the application's perhaps, may have been in SQLite at
    the fork: its locks are copied locked, and the first call here waits for ever.
    """
    global _state  # noqa: PLW0603
    if _state == _UNPROBED:
        answered = threading.Event()

        def try_it() -> None:
            with suppress(*ERRORS):
                # The file is opened and read, for the sake of every lock on the way.
                probe = _connect(path, read_only=True)
                with suppress(*ERRORS):
                    probe.execute("PRAGMA schema_version").fetchone()
                probe.close()
            answered.set()

        thread = threading.Thread(target=try_it, name="htlogging-probe", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            answered.set()  # no thread can be started: it remains unknown
        _state = _NONE if answered.wait(_PROBE) else _DEAD
    if _state == _DEAD:
        raise SpoolUnavailable(
            "this process was forked while another thread used SQLite, which does not "
            "work here any more"
        )


def close(connection: sqlite3.Connection) -> None:
    """Close one; whatever is wrong with it."""
    with suppress(*ERRORS):
        connection.close()
    _open.discard(connection)


def lose(connection: sqlite3.Connection, why: str = _CLOSED) -> None:
    """Never use or close one again: its descriptors are not its own any more."""
    global _why_lost  # noqa: PLW0603
    _why_lost = why
    _lost.append(connection)
    _open.discard(connection)
    with suppress(Exception):
        # Not at the interpreter's end either, when modules are emptied.
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def drop(
    connections: Iterable[sqlite3.Connection],
    descriptors: Mapping[int, tuple[int, int] | None],
) -> None:
    """
    Close connections whose descriptors someone closed, if that does no harm.

    Args:
        connections: Those of one file.
        descriptors: Their numbers, and what identified the file of each.
    """
    for connection in connections:
        # While a number is free, or the same file's, closing it does no harm.
        if all(identity_of(fd) in (None, what) for fd, what in descriptors.items()):
            close(connection)
        else:
            lose(connection)


def before_fork(*, are_idle: bool) -> None:
    """
    Close all; no thread opens one until the fork is over.

    Args:
        are_idle: Whether no other thread uses one. Else the child inherits them.
    """
    global _are_idle  # noqa: PLW0603
    _are_idle = are_idle
    while are_idle and (connections := list(_open)):
        for connection in connections:
            # Whatever a signal handler raises meanwhile: none may cross.
            with suppress(BaseException):
                close(connection)


def after_fork_in_child() -> None:
    """Close nothing that was inherited, and use nothing of it."""
    global _state  # noqa: PLW0603
    for connection in list(_open):
        lose(connection, why_inherited())
    _state = _UNPROBED


def why_inherited() -> str:
    """Return why a child has connections of its parent."""
    return _UNTOLD if _are_idle else _AMID_WORK


def count() -> int:
    """Return how many are open."""
    return len(_open)


def descriptors_of(path: str) -> dict[int, tuple[int, int]]:
    """Return the descriptors of this process that are of a spool's files."""
    files = {identity(path + suffix) for suffix in ("", "-wal", "-shm")}
    try:
        numbers = list(map(int, os.listdir("/dev/fd")))
    except OSError:  # pragma: no cover  (no such folder in a bare chroot)
        return {}
    found = {fd: identity_of(fd) for fd in numbers}
    return {
        fd: what for fd, what in found.items() if what is not None and what in files
    }


def identity_of(fd: int) -> tuple[int, int] | None:
    """Return what identifies a descriptor's file; `None`: it is closed."""
    with Ignored(OSError):
        found = os.fstat(fd)
        return found.st_dev, found.st_ino
    return None
