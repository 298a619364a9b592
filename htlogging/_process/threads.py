"""
What this thread is: one of ours, one that is sending, one of an event loop.

What is logged while a thread sends is never an event.
"""

from __future__ import annotations

import _thread
import sys
import threading
from contextvars import ContextVar, copy_context
from weakref import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

# Whether this thread is sending. What it logs then is never an event: otherwise a record
# about sending would be sent, and so on. It is a context variable and not a threading.local,
# because gevent may patch that after this module was imported, and all its greenlets would be
# one thread. A forked child's only thread keeps its own value. The value names its thread and
# its end, because a task that on_error starts has a copy of it.
_this_sends: ContextVar[_Sending | None] = ContextVar("htlogging_sending", default=None)


# The threads of this package.
_own: WeakSet[threading.Thread] = WeakSet()


def own_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Make a daemon thread of this package: no application sets a time limit on it."""
    # No class of ours: gevent may have replaced `Thread` since this module was imported,
    # and to join one of before waits in vain until CPython 3.12.
    thread = threading.Thread(target=work, name=name, daemon=True)
    _own.add(thread)
    return thread


def is_own() -> bool:
    """Return whether this is a thread of this package."""
    return threading.current_thread() in _own


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


def run_sending(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """
    Do work on this thread that is marked as sending meanwhile; return its result.

    The mark is set in a copy of the context, which the interpreter enters and leaves in
    one step: an exception that a signal handler raises at any point takes it away.
    """
    now = _Sending()
    context = copy_context()
    context.run(_this_sends.set, now)
    try:
        return context.run(work, *args, **options)
    finally:
        now.active = False


def are_allowed() -> bool:
    """Return whether this interpreter has daemon threads; isolated subinterpreters do not."""
    allowed = getattr(_thread, "daemon_threads_allowed", None)  # from 3.12 on
    return allowed is None or bool(allowed())


def runs_event_loop() -> bool:
    """Return whether an event loop runs on this thread, asyncio's or trio's."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001
        return True
    return _runs_trio()


def _runs_trio() -> bool:
    trio = sys.modules.get("trio.lowlevel")
    try:
        # Raises RuntimeError where trio does not run.
        return trio is not None and bool(trio.current_trio_token())
    except RuntimeError:
        return False


async def run_beside(work: Callable[[], object]) -> None:
    """
    Do work on another thread and wait for it; the event loop keeps running.

    In a loop that is neither asyncio's nor trio's the work is done on this thread.
    """
    asyncio = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001
    if loop is not None:
        await loop.run_in_executor(None, work)
    elif _runs_trio():
        await sys.modules["trio"].to_thread.run_sync(work)
    else:
        work()
