"""This process's spools: one object for a file, and what a fork does with them."""

from __future__ import annotations

import os
import threading

from htlogging._process import fork
from htlogging._process.clock import clock
from htlogging._process.locks import LONGEST_WAIT, AroundFork, of_logging
from htlogging._queue.spool import connections
from htlogging._queue.spool.database import SpoolFile
from htlogging._queue.spool.lockfile import identity

# One object for a file, for as long as the process lives: two descriptors of one lock
# file would undo each other's locks. Only added to, by an atomic operation.
_files: dict[str, SpoolFile] = {}


def shared(path: str) -> SpoolFile:
    """Return this process's object for a path."""
    real = os.path.realpath(path)
    found = identity(real)
    for file in list(_files.values()):
        # Where names have no case, say, a file has several.
        if found is not None and identity(file.path) == found:
            return file
    return _files.setdefault(real, SpoolFile(real, path))


# `fork` and logging take these in hooks of their own, which come later: `before` hooks run
# in reverse order. Who holds them may want the next ones (an import makes a logger, a
# handler made by dictConfig may write an event); taken the other way round, the two would
# wait for each other.
_logging = AroundFork(of_logging)


# Until when a thread that forks tries to have them all; it changes its own, and a child
# begins anew.
_until: dict[int, float] = {}


def _before_fork() -> None:
    me = threading.get_ident()
    until = _until.setdefault(me, clock.monotonic() + LONGEST_WAIT)
    while not _acquire() and clock.monotonic() < until:
        # Who writes may be waiting for logging's lock, in a signal handler.
        _restore()


def _acquire() -> bool:
    fork.around.acquire()
    _logging.acquire()
    # Each, whatever became of the others.
    closed = [file.before_fork() for file in list(_files.values())]
    connections.before_fork(are_idle=all(closed))
    return all(closed)


def _after_fork_in_parent() -> None:
    _until.pop(threading.get_ident(), None)
    _restore()


def _restore() -> None:
    # Where the fork began before this module was there, in another thread, `_before_fork`
    # did not run: then these do nothing.
    for file in list(_files.values()):
        file.after_fork_in_parent()
    # In a child both are made anew, unlocked.
    _logging.restore()
    fork.around.restore()


class _Connections:
    """What a child does with SQLite's connections, told of a fork as others are."""

    def after_fork_in_child(self) -> None:
        """Use nothing that the child inherited."""
        _until.clear()
        _logging.after_fork_in_child()
        connections.after_fork_in_child()


_connections = _Connections()
fork.register(_connections)

# A child's part is called by fork, as it is where Python was not told of the fork.
fork.add_hooks(_before_fork, _after_fork_in_parent)
