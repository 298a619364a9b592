"""
Locks that are waited for with a limit, and that no signal handler leaves locked.

`of_logging`, `holds_logging` and `call_logging` are about logging's own lock, which
`dictConfig` holds.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress

from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


# There a signal handler may run between the call of `__enter__` and the block of a `with`:
# what it raises leaves the lock locked for ever (gh-148874; fixed in 3.15).
_MAY_LEAK = sys.version_info[:2] == (3, 14)


def lock() -> threading.Lock:
    """Return a lock for `with`. What other modules take comes from here."""
    return _sure(threading.Lock())


def rlock() -> threading.RLock:
    """Return a re-entrant lock for `with`."""
    return _sure(threading.RLock())


def _sure(lock: T) -> T:
    # Made by `threading` at this moment: gevent may have replaced what makes them.
    return Guarded(lock) if _MAY_LEAK else lock  # type: ignore[return-value]


class Guarded:
    """
    A lock that a `with` surely releases, on CPython 3.14 too.

    A signal handler runs after a call, and when a function of ours begins. So `__enter__`
    takes the lock without a call of its own, and returns; and `__exit__` is the lock's.
    It costs 230 ns more than the 170 ns of an RLock's `with`, on a slow machine.

    Args:
        lock: A lock whose methods are in C.
    """

    __slots__ = ("__exit__", "_is_owned", "acquire", "locked", "release")

    def __init__(self, lock: Any) -> None:
        self.__exit__ = lock.__exit__
        self.acquire = lock.acquire
        self.release = lock.release
        for name in ("locked", "_is_owned"):  # each kind has one of them, or both
            if hasattr(lock, name):
                setattr(self, name, getattr(lock, name))

    def __enter__(self) -> None:
        # Unpacking asks the `map` for its element, and that calls `acquire(True)`.
        [_] = map(self.acquire, (True,))


def is_mine(lock: Any) -> bool:
    """Return whether this thread holds a re-entrant lock; `None`, no lock, is not held."""
    # A private name, which `threading.Condition` relies on; it does not wait.
    return lock is not None and bool(lock._is_owned())  # noqa: SLF001


def ownership(lock: Any) -> Callable[[], bool]:
    """Return a function that does as `is_mine` does for one lock, without its call."""
    owned: Callable[[], bool] = lock._is_owned  # noqa: SLF001
    return owned


def do_within(lock: threading.RLock, seconds: float, work: Callable[[], T]) -> T | None:
    """
    Do work with a lock, if it is free within this time; return what the work returns.

    A `with` cannot be cut short between taking the lock and the block, but has no limit;
    `acquire` can: a signal handler that raises there would leave it locked for ever. So
    it is released even if it is not known to be taken.

    Returns:
        What the work returns; `None` without the lock.
    """
    if is_mine(lock):
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
    Do work with a lock, or without it if it is not free within this time.

    For work that does little harm then: a count may be off by one. The lock's owner may
    have been stopped by a signal handler that waits for this thread.
    """
    done: list[T] = []
    do_within(lock, seconds, lambda: done.append(work()))
    return done[0] if done else work()


# Seconds to wait for a lock whose owner may wait for one that this thread has: for logging's,
# say, in a signal handler that makes a logger. A fork waits as long, for each.
LONGEST_WAIT = 5.0


class AroundFork:
    """
    A lock that a fork waits for, and that the parent's threads can have afterwards.

    A signal handler may raise between any two steps. So no step trusts a flag that the
    one before has set: each looks at the lock. All can be done twice; see `fork`.

    Args:
        lock: Returns the lock, which a child replaces.
        seconds: Returns how long a fork waits for it.
    """

    def __init__(
        self,
        lock: Callable[[], Any],
        seconds: Callable[[], float] = lambda: LONGEST_WAIT,
    ) -> None:
        self._lock = lock
        self._seconds = seconds
        # Threads that fork, by number: whether each held the lock before, and until when
        # it waits. A thread changes its own; a child begins anew.
        self._had: dict[int, tuple[bool, float]] = {}

    def acquire(self) -> bool:
        """
        Take the lock before a fork, unless this thread holds it.

        Returns:
            Whether this thread holds it now. It may not be had in time; a second call
            before the same fork does not wait again.
        """
        lock, me = self._lock(), threading.get_ident()
        until = clock.monotonic() + self._seconds()
        _, until = self._had.setdefault(me, (is_mine(lock), until))
        left = 0.0
        while not is_mine(lock) and left >= 0:
            with suppress(BaseException):  # a signal handler's: the fork goes on
                left = until - clock.monotonic()
                lock.acquire(timeout=max(left, 0))
        return is_mine(lock)

    def restore(self) -> None:
        """Leave the lock as it was before the fork, if `acquire` was called."""
        lock, me = self._lock(), threading.get_ident()
        had, _ = self._had.get(me, (True, 0.0))
        if not had and is_mine(lock):
            lock.release()
        self._had.pop(me, None)

    def after_fork_in_child(self) -> None:
        """Know of no fork: the lock is a new one."""
        self._had = {}


def of_logging() -> Any:
    """Return logging's own lock: a private name, which every version has had."""
    return logging._lock  # type: ignore[attr-defined]  # noqa: SLF001


def holds_logging() -> bool:
    """Return whether this thread holds logging's own lock, as `dictConfig` does."""
    return is_mine(of_logging())


def call_logging(call: Callable[[], object]) -> None:
    """
    Call a function of `logging` that takes its lock, and leave the lock as it was.

    An exception that a signal handler raises may leave it locked (until 3.12, `logging`
    takes it by a call; 3.14: see above). Then other threads could not log.
    """
    if holds_logging():
        call()
        return
    try:
        call()
    finally:
        while holds_logging():
            of_logging().release()
