"""Whether this thread holds the lock of `logging`, and what it must not do then."""

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
    Return what holds off forks during an import, where this thread may wait for it.

    `dictConfig` makes handlers with logging's lock held, which keeps forks away as
    well, and must not wait for an import: that may make a logger, and want the lock.
    """
    return nullcontext() if is_held() else fork.importing


def is_held() -> bool:
    """Return whether this thread holds logging's own lock, as `dictConfig` does."""
    return is_mine(logging._lock)  # type: ignore[attr-defined]  # noqa: SLF001


def is_mine(lock: Any) -> bool:
    """Return whether this thread holds the lock, as `threading.Condition` does."""
    return lock is not None and lock._is_owned()  # noqa: SLF001
