"""The lock of `logging`: whether this thread holds it, and what it must not do then."""

from __future__ import annotations

import logging
from contextlib import nullcontext

from htlogging._process import fork
from htlogging._process.locks import is_mine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def late_import() -> AbstractContextManager[object]:
    """
    Return a lock that delays forks during an import, if this thread may wait for it.

    `dictConfig` makes handlers while it holds logging's lock. That lock delays forks, too.
    It must not wait for an import, which may make a logger and need that lock.
    """
    return nullcontext() if is_held() else fork.importing


def kept(call: Callable[[], object]) -> None:
    """
    Call something of `logging` that takes its lock, and leave that as it was.

    An exception that a signal handler raises may leave it locked (until 3.12, `logging`
    takes it by a call; 3.14: see `locks`). Then other threads could not log.
    """
    if is_held():
        call()
        return
    try:
        call()
    finally:
        while is_held():
            logging._lock.release()  # type: ignore[attr-defined]  # noqa: SLF001


def is_held() -> bool:
    """Return whether this thread holds logging's own lock, as `dictConfig` does."""
    return is_mine(logging._lock)  # type: ignore[attr-defined]  # noqa: SLF001
