"""The lock of `logging`: whether this thread holds it, and what it must not do then."""

from __future__ import annotations

import logging
from contextlib import nullcontext

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any


def late_import() -> AbstractContextManager[object]:
    """
    Return a lock that delays forks during an import, if this thread may wait for it.

    `dictConfig` makes handlers while it holds logging's lock. That lock delays forks, too.
    It must not wait for an import, which may make a logger and need that lock.
    """
    return nullcontext() if is_held() else fork.importing


def is_held() -> bool:
    """Return whether this thread holds logging's own lock, as `dictConfig` does."""
    return is_mine(logging._lock)  # type: ignore[attr-defined]  # noqa: SLF001


def is_mine(lock: Any) -> bool:
    """Return whether this thread holds the lock, as `threading.Condition` does."""
    return lock is not None and lock._is_owned()  # noqa: SLF001
