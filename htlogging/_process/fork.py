"""
What happens at a fork. docs/architecture.md tells the whole story.

Threads do not survive a fork, locks stay in the state they were in, and queued events are
the parent's. An object that has any of these registers itself. In the child its
`after_fork_in_child` makes them anew, before any other code runs there.

uWSGI forks without telling Python (unless `py-call-uwsgi-fork-hooks` is set). `detect`
finds that out by the process's number.
"""

from __future__ import annotations

import _frozen_importlib
import os
import sys
import threading
import weakref

from htlogging._process import locks
from htlogging._process.locks import LONGEST_WAIT, AroundFork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class Forkable(Protocol):
        """Something with threads, locks or queued events."""

        def after_fork_in_child(self) -> None:
            """Begin anew; called in the child, on its only thread."""


# What begins anew in a child, in this order: a spool's file has new locks before the queue
# that uses it. Any thread adds to it; the child reads a copy.
_registered: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()

# Held while a thread does what no child must have half of, and by a fork. Every wait for it
# has a limit: its holder may wait for any lock that the waiting thread has, for an import
# makes loggers and waits for other imports.
_whole = locks.rlock()

# The threads that are in `do_whole`, with the lock or without. Each changes its own number,
# in one step; a child begins anew.
_doing: set[int] = set()

# Seconds to wait for it. The import of `requests` takes 0.05 to 0.5 s.
_WAIT = 1.0

# Seconds for which a fork waits for it with logging's lock, for which an import may wait.
_BRIEF_WAIT = 0.1


def do_whole(work: Callable[[], T]) -> T:
    """
    Do what a forked child must not have half of; a fork waits for it.

    Such are a late import (requests, orjson), and making the facade's client. One thread
    does it at a time, but none waits for long, nor while it holds logging's lock, as
    `dictConfig` does when it makes handlers: an import may wait for that lock.
    """
    me = threading.get_ident()
    is_outermost = me not in _doing
    _doing.add(me)
    try:
        return locks.do_anyway(_whole, 0 if locks.holds_logging() else _WAIT, work)
    finally:
        if is_outermost:
            _doing.discard(me)


def late_import(load: Callable[[], T]) -> Callable[[], T]:
    """
    Return a function that returns what `load` imports; for what takes long to import.

    `load` is called by `do_whole`, until it has returned once.
    """
    found: T | None = None

    def imported() -> T:
        nonlocal found
        if found is None:
            found = do_whole(load)
        return found

    return imported


def register(thing: Forkable) -> None:
    """
    Call the object's `after_fork_in_child` in every child, as long as it lives.

    After those that were registered before it: what it uses, among them.
    """
    _registered[thing] = None


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
    global _whole, pid  # noqa: PLW0603
    me = {threading.get_ident()}
    _drop_half_imports(_doing - me)
    _doing.intersection_update(me)
    _whole = locks.rlock()
    around.after_fork_in_child()
    for thing in list(_registered):
        thing.after_fork_in_child()
    # Last: other threads in `detect` wait for it.
    pid = os.getpid()


def _in_child_once() -> None:
    if os.getpid() != pid:
        _in_child()


def _drop_half_imports(threads: set[int]) -> None:
    """
    Have a child import anew what these threads of its parent were importing.

    CPython locks a module while it is imported. In the child it would stay locked, and
    each import of it wait for ever (3.10 to 3.15).
    """
    locked = _frozen_importlib._module_locks  # type: ignore[attr-defined]  # noqa: SLF001
    for name, reference in list(locked.items()):
        if getattr(reference(), "owner", None) not in threads:
            continue
        locked.pop(name, None)
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            # Its submodules, too: they would not be attributes of the new one.
            for module in list(sys.modules):
                if f"{module}.".startswith(f"{name}."):
                    sys.modules.pop(module, None)


# Around a fork, `_whole` is held if it can be had in time.
around = AroundFork(
    lambda: _whole, lambda: _BRIEF_WAIT if locks.holds_logging() else LONGEST_WAIT
)


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
