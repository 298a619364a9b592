"""
What the end of the interpreter asks of handlers.

`logging.shutdown`, an atexit hook that was registered before ours and so runs after it,
flushes and closes the handlers in logging's list. A reconfiguration empties that list;
our hook puts back who is missing.
"""

from __future__ import annotations

import atexit
import logging
import time
import weakref

from htlogging._process import fork, hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Closable(Protocol):
        """A handler that sends in the background."""

        def flush(self, timeout: float | None = None) -> bool:
            """Wait until everything accepted so far is delivered or given up."""

        def nudge(self) -> None:
            """Have everything accepted so far sent now, without waiting."""

        def close(self) -> None:
            """Flush within a time of its own."""


# All handlers that live: changed by those who make one, read at exit.
_handlers: weakref.WeakSet[Closable] = weakref.WeakSet()

# Handlers with something to deliver: an application may forget its client right after
# the first event. From the first event until closed; a forked child keeps them too.
_busy: set[Closable] = set()

# Monotonic seconds at which the first handler was closed at exit.
_began: float | None = None

# Whether our hook has run. Written once, by the thread that ends the interpreter.
_exiting = False


def register(handler: Closable) -> None:
    """Have this handler flushed and closed at exit, as long as it lives."""
    _handlers.add(handler)


def living() -> list[Closable]:
    """Return the handlers that live in this process."""
    return list(_handlers)


def hold(handler: Closable) -> None:
    """Keep a handler that has events, and have it closed when this process ends."""
    _busy.add(handler)
    hosts.watch_end(_at_child_exit)


def let_go(handler: Closable) -> None:
    """Let a handler be forgotten: it has no events."""
    _busy.discard(handler)


def close_all() -> None:
    """Flush and close every handler, where a server or a worker ends."""
    fork.notice()
    handlers = list(_handlers)
    # All send from now on, side by side.
    for handler in handlers:
        handler.nudge()
    for handler in handlers:
        handler.close()


def is_exiting() -> bool:
    """Tell whether atexit hooks are running: `logging.shutdown` is still to come."""
    return _exiting


def deadline(seconds: float) -> float:
    """
    Return the monotonic time by which a handler that is closed now shall be done.

    At exit all handlers are closed in a row, and their time begins with the first: an
    application with ten of them and a dead server ends as soon as one with one.
    """
    global _began  # noqa: PLW0603
    now = time.monotonic()
    if not _exiting:
        return now + seconds
    if _began is None:
        _began = now
    return max(_began + seconds, now)


@atexit.register
def _at_exit() -> None:
    global _exiting  # noqa: PLW0603
    fork.notice()
    _exiting = True
    listed = {ref() for ref in logging._handlerList}  # type: ignore[attr-defined]  # noqa: SLF001
    for handler in list(_handlers):
        if handler not in listed:
            logging._addHandlerRef(handler)  # type: ignore[attr-defined]  # noqa: SLF001
        # All send from now on, side by side; they are closed one after another.
        handler.nudge()


def _at_child_exit() -> None:
    """Close all handlers: nobody will after us."""
    _at_exit()
    for handler in list(_handlers):
        handler.close()
