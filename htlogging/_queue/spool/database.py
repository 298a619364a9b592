"""
The spool's file: SQLite in WAL mode, shared by processes, and who owns what in it.

An owner's events are sent by it alone; those of an owner whose byte of `PATH-lock` is
free (see `lockfile`) may be adopted by anyone, who then holds that byte too.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
import weakref
from contextlib import suppress
from functools import partial
from itertools import count

from htlogging._queue.spool import location, pragmas, statements
from htlogging._queue.spool.clock import Clock
from htlogging._queue.spool.connection_pair import ConnectionPair
from htlogging._queue.spool.lockfile import FIRST_OWNER
from htlogging._queue.spool.schema import MAX_OWNER, SpoolUnavailable, Translated
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

# The share of the log's pages at which the sender copies it, counted in statements: an
# event takes two to ten.
_EARLIER = 32

# Pages given back to the system in one go: a few milliseconds, which callers wait for.
_SOME_PAGES = 256

# Numbers that are tried for one whose place in the lock file is free.
_MAX_TRIES = 64

# When owners' numbers begin, in seconds since 1970: 2020. They end in 2054.
_EPOCH = 1_577_836_800


class SpoolFile(ConnectionPair):
    """
    One file as one process sees it; its queues share this object.

    Args:
        path: An absolute path without links.
        name: The path as it was given.
    """

    def __init__(self, path: str, name: str | None = None) -> None:
        super().__init__(path, name)
        # Owners that no queue serves.
        self._idle: set[int] = set()
        self._newest = 0  # the last number that was given; with `writing`
        # owner -> events that were delivered after their queue had left them, until who
        # adopts them finds them missing.
        self.delivered_late: dict[int, int] = {}
        # Queues and where they send to. Not guarded: each operation is atomic.
        self._users: weakref.WeakKeyDictionary[object, Hashable] = (
            weakref.WeakKeyDictionary()
        )
        self.clock: Clock | None = None  # where a queue counts age

    def watch_clock(self) -> Clock:
        """Have what is written carry a time that age can be counted from."""
        if self.clock is None:
            self.clock = Clock()
        return self.clock

    def time(self) -> float | None:
        """Return the time for what is written; `None`: the system's will do."""
        return None if self.clock is None else self.clock.time()

    def _set_up(self, connection: sqlite3.Connection) -> None:
        super()._set_up(connection)
        if self.clock is not None:
            # Before an event is written: this process may have begun with a wrong clock.
            self.clock.see(statements.clock(connection))

    def register(self, user: object, destination: Hashable) -> None:
        """
        Use the file for events to a destination.

        Raises:
            InvalidSetting: Others of this process use it for another one. Events of
                processes that died do not tell where they must go.
        """
        if any(other != destination for other in list(self._users.values())):
            raise InvalidSetting(
                "spool is in use in this process with another write_key or host; "
                "give each its own path, or close the other one first"
            )
        self._users[user] = destination

    def unregister(self, user: object) -> None:
        """Note that a queue does not use the file, for now."""
        self._users.pop(user, None)

    def is_used(self) -> bool:
        """Return whether a queue uses it."""
        return bool(self._users)

    def note(self, owner: int, accepted: int, settled: int) -> None:
        """Save how many events an owner accepted, and how many are settled."""
        self._lock.note(owner, accepted, settled)

    def settled_of(self, owner: int) -> int:
        """Return how many of an owner's events were settled, as far as is known."""
        with Translated():
            found = self.with_writing(lambda: self._lock.noted(owner))
            return 0 if found is None else found[1]

    def count_lost(self) -> int:
        """
        Return how many events of processes that died are not in the file any more.

        They are counted once.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        with Translated():
            return self.with_writing(self._count_lost)

    def _count_lost(self) -> int:
        lost = 0
        for owner in self._lock.all_noted():
            ours = owner in self._lock.held
            if (ours and owner not in self._idle) or not self._lock.lock(owner):
                continue  # a living process counts its own
            # Read only now, with the lock: another process may have finished it meanwhile.
            accepted, settled = self._lock.noted(owner) or (0, 0)
            here = self.read(statements.sum_of_owner, owner).events
            lost += max(accepted - settled - here, 0)
            if here:
                accepted = max(accepted, settled + here)
                self._lock.note(owner, accepted, accepted - here)
            else:
                self._lock.forget(owner)
            if not ours:
                self._lock.unlock(owner)
        return lost

    def new_owner(self) -> int:
        """
        Take a number that is not in use, and lock its byte.

        It begins with the time: elder owners are adopted first. A number is not given
        again, also if the file is deleted and made anew: an answer for an event of the
        old file would remove one of the new. Other processes draw others, mostly.

        Raises:
            SpoolUnavailable: The lock file cannot be made.
        """
        nested = self.is_writing_here()
        with self.writing, Translated():
            connection = self._to_write(nested)
            # A clock that was never set may stand at 0, or before.
            seconds = max(int(time.time()) - _EPOCH, 1)
            owner = min(seconds << 6 | secrets.randbits(6), MAX_OWNER // 2)
            owner = max(owner, self._newest)
            for tries in count():
                owner = max(owner + 1, FIRST_OWNER)
                if owner in self._lock.held or not self._lock.lock(owner):
                    continue
                # Unless its process died: then it will be adopted.
                if statements.span(connection, owner) is None and (
                    tries > _MAX_TRIES or self._lock.is_free(owner)
                ):
                    self._lock.note(owner, 0, 0)
                    self._newest = owner
                    return owner
                self._lock.unlock(owner)
            raise AssertionError  # pragma: no cover  (numbers have no end)

    def adopt(self, count: int) -> list[tuple[int, int, int]]:
        """
        Take over owners that have events and that no process serves, the elder ones first.

        Args:
            count: Owners at most.

        Returns:
            Each one's number, and its first and last event's.

        Raises:
            SpoolUnavailable: The file cannot be read.
        """
        with Translated():
            # Another file may have its name: then no process sees our locks.
            self.with_writing(self._lock.ready)
        adopted: list[tuple[int, int, int]] = []
        # One by one along the key: a DISTINCT would look at every event.
        owner = self.read(statements.next_owner, 0)
        while owner is not None and len(adopted) < count:
            with Translated():
                ours = self.with_writing(partial(self._take_over, owner))
            if ours:
                ends = self.read(statements.span, owner)
                if ends is not None:
                    adopted.append((owner, *ends))
            owner = self.read(statements.next_owner, owner)
        return adopted

    def _take_over(self, owner: int) -> bool:
        """Return whether an owner is ours, or was free to take; called with `writing`."""
        # Whatever its destination was, it is treated as if its process had died.
        ours = owner in self._idle or (
            owner not in self._lock.held and self._lock.lock(owner)
        )
        # From here on, and until all is noted, another queue may have it.
        self._idle.update({owner} if ours else ())
        return ours

    def claim_owner(self, owner: int) -> bool:
        """Take an adopted owner for one queue; return whether no other queue was faster."""

        def claim() -> bool:
            idle = owner in self._idle
            self._idle.discard(owner)
            return idle

        return self.with_writing(claim)

    def release_owners(self, owners: Iterable[int]) -> None:
        """Let other queues of this process adopt these; their bytes stay locked."""
        with self.writing:
            self._idle.update(owners)

    def drop_owners(self, owners: Iterable[int]) -> None:
        """Stop serving these: they have no events."""

        def drop() -> None:
            for owner in owners:
                self._idle.discard(owner)
                self.delivered_late.pop(owner, None)
                self._lock.forget(owner)
                self._lock.unlock(owner)

        with Translated():
            self.with_writing(drop)

    def is_there(self) -> bool:
        """Return whether there is a file, as far as is known."""
        return self.is_open() or os.path.exists(self.path)

    def used_bytes(self) -> int:
        """Return the bytes that its files take, those of free pages aside."""
        used: int = self.read(pragmas.used_bytes)
        return used + self.log_bytes()

    def log_bytes(self) -> int:
        """Return the bytes of SQLite's log, and of its index."""
        return sum(location.size(self.path + suffix) for suffix in ("-wal", "-shm"))

    def tidy(self, rounds: int) -> None:
        """
        Give pages that are free back to the system, and empty the log: it shrinks.

        Args:
            rounds: How often to give back a megabyte, with a pause for callers between.
        """
        while rounds and self.write(pragmas.give_back, _SOME_PAGES):
            rounds -= 1
        self.checkpoint()

    def log_is_long(self) -> bool:
        """Return whether it is time for `checkpoint`."""
        return self._logged >= self._wal_pages // _EARLIER

    def checkpoint(self) -> None:
        """Copy the log into the file, so that no caller's commit has to; if possible."""
        self._logged = 0  # first: a failure waits for its turn as well
        # If not, there is no harm: events can be written all the same.
        with suppress(SpoolUnavailable):
            # Here callers write meanwhile.
            self.read(pragmas.copy_log)
            # Not within the other: a signal handler may read while its thread writes.
            # Callers wait while what they wrote meanwhile is copied, and for the file's
            # sync: 3 ms here. The log begins anew only when all of it was copied.
            self.write(pragmas.copy_log)

    def empty_log(self) -> None:
        """Copy the log and cut it to nothing, unless another process reads."""
        with suppress(SpoolUnavailable):
            self.write(_empty_log)

    def after_fork_in_child(self) -> None:
        """Forget all owners and queues: they are the parent's."""
        super().after_fork_in_child()
        self._idle = set()
        self.delivered_late.clear()
        self._users = weakref.WeakKeyDictionary()


def _empty_log(connection: sqlite3.Connection) -> None:
    pragmas.copy_log(connection, "TRUNCATE")
