"""The loggers that there are, and the handlers that their records reach."""

from __future__ import annotations

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def loggers() -> list[logging.Logger]:
    """Return the root logger, then all that `getLogger` has made."""
    # A copy: other threads may make loggers meanwhile. Names that only have loggers below
    # them have a placeholder in it.
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(each for each in named if isinstance(each, logging.Logger))]


def handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Yield the handlers that see a logger's records, in order."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def reached_twice(
    handler: logging.Handler, is_like: Callable[[logging.Handler], bool]
) -> str | None:
    """
    Return the name of a logger whose records reach a handler and then a similar one.

    Args:
        handler: The handler.
        is_like: Returns whether another handler sends to the same place.
    """
    for logger in loggers():
        # Loggers without handlers of their own reach the same handlers as those above.
        if not logger.handlers:
            continue
        reached = list(_reached(logger))
        if handler in reached:
            later = reached[reached.index(handler) + 1 :]
            if any(other is not handler and is_like(other) for other in later):
                return logger.name
    return None


def _reached(logger: logging.Logger) -> Iterator[logging.Handler]:
    for handler in handlers(logger):
        yield handler
        # From CPython 3.12 on a QueueHandler of dictConfig knows who reads its queue.
        yield from getattr(getattr(handler, "listener", None), "handlers", ())
