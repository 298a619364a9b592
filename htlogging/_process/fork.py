"""
What happens at a fork. docs/architecture.md tells the whole story.

Threads do not survive a fork, locks stay in the state they were in, and queued events are
the parent's. An object that has any of these registers itself. In the child its
`after_fork_in_child` makes them anew, before any other code runs there.

uWSGI forks without telling Python (unless `py-call-uwsgi-fork-hooks` is set). `detect`
finds that out by the process's number.
"""

from __future__ import annotations

import os
import weakref
from contextlib import nullcontext

from htlogging._process import locks
from htlogging._process.locks import AroundFork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    class Forkable(Protocol):
        """Something with threads, locks or queued events."""

        def after_fork_in_child(self) -> None:
            """Begin anew; called in the child, on its only thread."""


# What begins anew in a child. Any thread adds to it; the child reads a copy.
_registered: weakref.WeakSet[Any] = weakref.WeakSet()

# Held during a late import (requests, orjson), while the facade's client is made, and by a
# fork. A child that is forked in the middle would have half a module, and its lock held for
# ever.
importing = locks.rlock()


def late_import() -> AbstractContextManager[object]:
    """
    Return the lock for a late import, if this thread may wait for it.

    `dictConfig` makes handlers while it holds logging's lock. That lock delays forks, too.
    It must not wait for an import, which may make a logger and need that lock.
    """
    return nullcontext() if locks.holds_logging() else importing


def register(thing: Forkable) -> None:
    """Call the object's `after_fork_in_child` in every child, as long as it lives."""
    _registered.add(thing)


# The process that the state in this module belongs to.
pid = os.getpid()

# Held while `detect` makes up for a fork that Python was not told of; events of other threads
# wait. Re-entrant for signal handlers. Only a signal handler could fork meanwhile.
_detecting = locks.rlock()


def detect() -> None:
    """
    Run the hooks of a fork, if there was one that Python was not told of.

    Each event does that, and compares `pid` itself: a call would take 0.03 us.
    """
    if os.getpid() != pid:
        with _detecting:
            if os.getpid() != pid:
                _in_child()


def _in_child() -> None:
    global importing, pid  # noqa: PLW0603
    importing = locks.rlock()
    around.after_fork_in_child()
    for thing in list(_registered):
        thing.after_fork_in_child()
    # Last: other threads in `detect` wait for it.
    pid = os.getpid()


def _in_child_once() -> None:
    if os.getpid() != pid:
        _in_child()


# Around a fork, `importing` is held.
around = AroundFork(lambda: importing)


def add_hooks(
    before: Callable[[], object],
    in_parent: Callable[[], object],
    in_child: Callable[[], object] | None = None,
) -> None:
    """
    Call these at each fork, in the order of `os.register_at_fork`.

    Twice: a signal handler that raises when a hook begins ends it, and the fork goes on.
    So each must be able to come again, and to do what is not done yet.
    """
    if hasattr(os, "register_at_fork"):
        for _ in range(2):
            os.register_at_fork(before=before, after_in_parent=in_parent)
            if in_child is not None:
                os.register_at_fork(after_in_child=in_child)


add_hooks(around.acquire, around.restore, _in_child_once)
