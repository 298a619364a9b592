"""
What happens at a fork. docs/architecture.md tells the whole story.

Threads do not survive a fork, locks stay in the state they were in, and queued events are
the parent's. An object that has any of these registers itself. In the child its
`after_fork_in_child` makes them anew, before any other code runs there.

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
            """Begin anew; called in the child, on its only thread."""


_registered: weakref.WeakSet[Any] = weakref.WeakSet()

# Held during a late import (requests, orjson), while the facade's client is made, and by a
# fork. A child that is forked in the middle would have half a module, and its lock held for
# ever.
importing = threading.RLock()


def register(thing: Forkable) -> None:
    """Call the object's `after_fork_in_child` in every child, as long as it lives."""
    _registered.add(thing)


# The process that the state in this module belongs to.
_pid = os.getpid()

# Held while `notice` makes up for a fork that Python was not told of; events of other threads
# wait. Re-entrant for signal handlers. Only a signal handler could fork meanwhile.
_noticing = threading.RLock()


def notice() -> None:
    """Run the hooks of a fork, if there was one that Python was not told of."""
    if os.getpid() != _pid:
        with _noticing:
            if os.getpid() != _pid:
                _in_child()


def _in_child() -> None:
    global importing, _pid  # noqa: PLW0603
    importing = threading.RLock()
    for thing in list(_registered):
        thing.after_fork_in_child()
    # Last: other threads in `notice` wait for it.
    _pid = os.getpid()


def _before() -> None:
    global _holding  # noqa: PLW0603
    importing.acquire()
    _holding = True


def _in_parent() -> None:
    global _holding  # noqa: PLW0603
    # False if another thread imported this module during the fork: then only the hooks
    # after the fork run.
    if _holding:
        _holding = False
        importing.release()


_holding = False  # whether the current fork holds `importing`

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_in_parent, after_in_child=_in_child
    )
