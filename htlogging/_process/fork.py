"""
What a forked child does anew.

Threads do not survive a fork, locks survive in the state they were in, and queued
events are the parent's. An object that has any of these registers itself; in the child
its `after_fork_in_child` makes them afresh, before any other code runs there.

uWSGI forks without telling Python (unless `py-call-uwsgi-fork-hooks` is set). `notice`
finds that out by the process's number.
"""

from __future__ import annotations

import os
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Forkable(Protocol):
        """Something with threads, locks or queued events."""

        def after_fork_in_child(self) -> None:
            """Forget the parent's; in the child, on its only thread."""


_registered: weakref.WeakSet[Any] = weakref.WeakSet()

# Held while we import something late (requests, orjson) or make the facade's client, and
# by a fork: a child made in the middle of it would find it half there, and its lock held
# for ever.
importing = threading.RLock()


def register(thing: Forkable) -> None:
    """Have its `after_fork_in_child` called in every child, as long as it lives."""
    _registered.add(thing)


# The process that all this was made for.
_pid = os.getpid()

# Held while a fork that Python was not told of is made up for: events of other threads
# wait. Re-entrant for signal handlers. Nobody forks meanwhile but a signal handler.
_noticing = threading.RLock()


def notice() -> None:
    """Do what a fork asks for, if it was one that Python was not told of."""
    if os.getpid() != _pid:
        with _noticing:
            if os.getpid() != _pid:
                _in_child()


def _in_child() -> None:
    global importing, _pid  # noqa: PLW0603
    importing = threading.RLock()
    for thing in list(_registered):
        thing.after_fork_in_child()
    # Last: other threads, in `notice`, wait for it.
    _pid = os.getpid()


def _before() -> None:
    global _holding  # noqa: PLW0603
    importing.acquire()
    _holding = True


def _in_parent() -> None:
    global _holding  # noqa: PLW0603
    # Not so where this module was imported, by another thread, while the fork was under
    # way: then only the hooks that come after it run.
    if _holding:
        _holding = False
        importing.release()


_holding = False  # whether a fork under way has `importing`

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_in_parent, after_in_child=_in_child
    )
