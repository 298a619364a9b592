"""
What happens at the interpreter's exit. docs/architecture.md tells the whole story.

`logging.shutdown` flushes and closes the handlers in logging's list. It is an atexit hook
that was registered before ours, so it runs after ours. A reconfiguration empties that list;
our hook adds the handlers that are missing.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref

from htlogging._process import fork, hosts
from htlogging._process.clock import clock, timeout_seconds
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class Closable(Protocol):
        """A handler that sends in the background."""

        @property
        def host(self) -> str:
            """The host that events are sent to."""

        @property
        def sends(self) -> bool:
            """Whether sending is not turned off."""

        def flush(self, timeout: float | None = None, *, check: bool = False) -> bool:
            """Wait until everything accepted so far is delivered or given up."""

        def close(self) -> None:
            """Flush, within a deadline of its own."""

    class Pipeline(Protocol):
        """What a handler sends with."""

        def start_flush(self) -> None:
            """Start sending everything accepted so far, without waiting."""

        def give_up(self) -> None:
            """Give up what is queued, and say so."""

        def report_loggers(self, *, listeners: bool = False) -> None:
            """Report loggers that have dropped what was meant as an event."""


# All living handlers, and what they send with: a constructor adds one, the exit reads them.
_handlers: weakref.WeakKeyDictionary[Closable, Pipeline] = weakref.WeakKeyDictionary()

# Handlers that have had an event and are not closed yet. They are kept alive here, because
# an application may drop its client right after the first event. A forked child keeps them.
_busy: set[Closable] = set()

# Monotonic seconds at which the first handler was closed at exit.
_began: float | None = None


class _ClosingAll(threading.local):
    """Handlers that this thread closes one after another."""

    # Monotonic seconds at which the first one was closed; `None` outside `close_all`.
    began: float | None = None


_closing_all = _ClosingAll()

# Whether our hook has run. Written once, by the thread that ends the interpreter.
_exiting = False


def register(handler: Closable, pipeline: Pipeline) -> None:
    """Flush and close this handler at exit, as long as it lives."""
    _handlers[handler] = pipeline


def living() -> list[Closable]:
    """Return the handlers that live in this process."""
    # Other threads may add to the table meanwhile; `keyrefs` is a single step.
    found = (reference() for reference in _handlers.keyrefs())
    return [handler for handler in found if handler is not None]


def is_any_living() -> bool:
    """Return whether a handler lives in this process; it takes less time than `living`."""
    return len(_handlers) > 0


def _start_flush(handler: Closable) -> None:
    """Start sending what a handler has, beside the others."""
    pipeline = _handlers.get(handler)
    if pipeline is not None:
        pipeline.start_flush()


def report_loggers(*, listeners: bool = False) -> None:
    """
    Have each handler report loggers that have dropped what was meant as its event.

    Args:
        listeners: Whether to look for listeners that do not run, too; it takes a while.
    """
    for handler in living():
        pipeline = _handlers.get(handler)
        if pipeline is not None:
            pipeline.report_loggers(listeners=listeners)


def keep_alive(handler: Closable) -> None:
    """Keep a handler that has events alive, and close it when this process ends."""
    _busy.add(handler)
    hosts.call_at_end(_at_child_exit)


def stop_keeping(handler: Closable) -> None:
    """Stop keeping a handler alive: it has no events."""
    _busy.discard(handler)


def close_all(handlers: Iterable[Closable] | None = None) -> None:
    """
    Flush and close handlers side by side: with a dead server, ten take as long as one.

    Args:
        handlers: Which ones; all of the process if `None`.
    """
    fork.detect()
    each = living() if handlers is None else list(handlers)
    for handler in each:
        _start_flush(handler)
    before = _closing_all.began
    _closing_all.began = clock.monotonic() if before is None else before
    try:
        for handler in each:
            handler.close()
    finally:
        _closing_all.began = before


def flush_all(
    handlers: Sequence[Closable], timeout: float | None, *, check: bool
) -> bool:
    """Flush handlers side by side; as `HtEventsHandler.flush` for all of them."""
    deadline = clock.monotonic() + timeout_seconds(timeout)
    for handler in handlers[1:]:
        _start_flush(handler)
    done = True
    error: DeliveryError | None = None
    for handler in handlers:
        left = None if timeout is None else max(deadline - clock.monotonic(), 0.0)
        try:
            done = handler.flush(left, check=check) and done
        except DeliveryError as exc:
            error = error or exc
    if error is not None:
        raise error
    return done


def give_up_others(pipeline: Pipeline) -> None:
    """
    Report what is lost with all other handlers, which will not be closed.

    An exception, a second Ctrl+C say, has ended `logging.shutdown` in the handler
    of this pipeline.
    """
    for handler in living():
        other = _handlers.get(handler)
        if other is not None and other is not pipeline:
            other.give_up()


def is_exiting() -> bool:
    """Return whether atexit hooks are running, and `logging.shutdown` will follow."""
    return _exiting


def deadline(seconds: float) -> float:
    """
    Return the monotonic time by which a handler that is closed now must be done.

    At exit and in `close_all` handlers are closed one after another, and their time begins
    with the first. So with a dead server ten handlers take no longer than one.
    """
    global _began  # noqa: PLW0603
    now = clock.monotonic()
    if not _exiting:
        began = _closing_all.began
        return now + seconds if began is None else max(began + seconds, now)
    if _began is None:
        _began = now
    return max(_began + seconds, now)


@atexit.register
def _at_exit() -> None:
    global _exiting  # noqa: PLW0603
    fork.detect()
    _exiting = True
    listed = {ref() for ref in logging._handlerList}  # type: ignore[attr-defined]  # noqa: SLF001
    for handler in living():
        if handler not in listed:
            logging._addHandlerRef(handler)  # type: ignore[attr-defined]  # noqa: SLF001
        # From now on all send at the same time; they are closed one after another.
        _start_flush(handler)


def _at_child_exit() -> None:
    """Close all handlers: no other hook will do it."""
    _at_exit()
    for handler in living():
        handler.close()
