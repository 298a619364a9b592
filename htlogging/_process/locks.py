"""Locks that are waited for with a limit, and that no signal handler leaves locked."""

from __future__ import annotations

import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


def do_within(lock: threading.RLock, seconds: float, work: Callable[[], T]) -> T | None:
    """
    Do work with a lock, if it can be had within this time; return what the work does.

    A `with` cannot be cut short between taking the lock and the block, but has no limit;
    `acquire` can: a signal handler that raises there would leave it locked for ever. So
    it is released even if it is not known to be taken.

    Returns:
        What the work returns; `None` without the lock.
    """
    if lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
        with lock:
            return work()
    try:
        return work() if lock.acquire(timeout=seconds) else None
    finally:
        # The very first call here: before another one a signal handler may come.
        try:  # noqa: SIM105
            lock.release()
        except RuntimeError:  # it was not taken
            pass


def do_anyway(lock: threading.RLock, seconds: float, work: Callable[[], T]) -> T:
    """
    Do work with a lock, or without it if it cannot be had within this time.

    For work that does little harm then: a count may be off by one. The lock's owner may
    have been stopped by a signal handler that waits for this thread.
    """
    done: list[T] = []
    do_within(lock, seconds, lambda: done.append(work()))
    return done[0] if done else work()


class AroundFork:
    """
    A lock that a fork waits for, and that the parent's threads can have afterwards.

    A signal handler may raise between any two steps. So no step trusts a flag that the
    one before has set: each looks at the lock. All can be done twice; see `fork`.

    Args:
        lock: Returns the lock, which a child replaces.
    """

    def __init__(self, lock: Callable[[], Any]) -> None:
        self._lock = lock
        # Threads that fork, by number, and whether each held the lock before. A thread
        # changes its own; a child begins anew.
        self._had: dict[int, bool] = {}

    def take(self) -> None:
        """Take the lock before a fork, unless this thread holds it."""
        lock = self._lock()
        self._had.setdefault(threading.get_ident(), _is_mine(lock))
        while not _is_mine(lock):
            with suppress(BaseException):  # a signal handler's: the fork goes on
                lock.acquire()

    def give_back(self) -> None:
        """Leave the lock as it was before the fork; nothing, where `take` was not called."""
        lock, me = self._lock(), threading.get_ident()
        if self._had.get(me) is False and _is_mine(lock):
            lock.release()
        self._had.pop(me, None)

    def after_fork_in_child(self) -> None:
        """Know of no fork: the lock is a new one."""
        self._had = {}


def _is_mine(lock: Any) -> bool:
    return bool(lock._is_owned())  # noqa: SLF001
