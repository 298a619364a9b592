"""Which threads are sending just now: what is logged there is never an event."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Whether this thread is sending: what is logged on it is never an event, or a record
# about sending would be sent, and so on. A context variable and no threading.local:
# gevent patches that, and this module may be older than the patch; all its greenlets
# would be one thread. A forked child's only thread goes on with its own value.
# It names its thread, and knows its end: a task that on_error makes has a copy.
_this_sends: ContextVar[_Sending | None] = ContextVar("htlogging_sending", default=None)


class _Sending:
    """That a thread is sending, until it is not."""

    __slots__ = ("active", "thread")

    def __init__(self) -> None:
        self.active = True
        self.thread = threading.get_ident()


def is_sending() -> bool:
    """Tell whether this thread is sending events just now."""
    found = _this_sends.get()
    return found is not None and found.active and found.thread == threading.get_ident()


@contextmanager
def sending() -> Iterator[None]:
    """Have what is logged meanwhile be no event."""
    now = _Sending()
    before = _this_sends.set(now)
    try:
        yield
    finally:
        now.active = False
        _this_sends.reset(before)
