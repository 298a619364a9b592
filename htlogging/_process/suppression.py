"""Which threads are sending: what they log meanwhile is never an event."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Whether this thread is sending. What it logs then is never an event: otherwise a record
# about sending would be sent, and so on. It is a context variable and not a threading.local,
# because gevent may patch that after this module was imported, and all its greenlets would be
# one thread. A forked child's only thread keeps its own value. The value names its thread and
# its end, because a task that on_error starts has a copy of it.
_this_sends: ContextVar[_Sending | None] = ContextVar("htlogging_sending", default=None)


class _Sending:
    """A time in which a thread is sending."""

    __slots__ = ("active", "thread")

    def __init__(self) -> None:
        self.active = True
        self.thread = threading.get_ident()


def is_sending() -> bool:
    """Return whether this thread is sending events at this moment."""
    found = _this_sends.get()
    return found is not None and found.active and found.thread == threading.get_ident()


@contextmanager
def sending() -> Iterator[None]:
    """Mark this thread as sending, for a block."""
    now = _Sending()
    before = _this_sends.set(now)
    try:
        yield
    finally:
        now.active = False
        _this_sends.reset(before)
