"""Locks that are waited for with a limit, and that no signal handler leaves locked."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import TypeVar

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
