"""
What a forked child does anew.

Threads do not survive a fork, locks survive in the state they were in, and queued
events are the parent's. An object that has any of these registers itself; in the child
its `after_fork_in_child` makes them afresh, before any other code runs there.
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

# Held while we import something late (requests, orjson), and by a fork: a child made in
# the middle of an import would find the module half there and its lock held for ever.
importing = threading.RLock()


def register(thing: Forkable) -> None:
    """Have its `after_fork_in_child` called in every child, as long as it lives."""
    _registered.add(thing)


def _in_child() -> None:
    global importing  # noqa: PLW0603
    importing = threading.RLock()
    for thing in list(_registered):
        thing.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        # Looked up when called: a child has a lock of its own.
        before=lambda: importing.acquire(),  # noqa: PLW0108
        after_in_parent=lambda: importing.release(),  # noqa: PLW0108
        after_in_child=_in_child,
    )
