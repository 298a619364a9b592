"""Two handlers that send the same record: a configuration that is rarely intended."""

from __future__ import annotations

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def reached_twice(
    handler: logging.Handler, is_like: Callable[[logging.Handler], bool]
) -> str | None:
    """
    Return the name of a logger whose records reach a handler and then a similar one.

    Args:
        handler: The handler.
        is_like: Returns whether another handler sends to the same place.
    """
    # A copy: other threads may make loggers meanwhile.
    loggers = list(logging.root.manager.loggerDict.values())
    for logger in (logging.root, *loggers):
        # Loggers without handlers of their own reach the same handlers as those above.
        if isinstance(logger, logging.Logger) and logger.handlers:
            reached = _reached(logger)
            if handler not in reached:
                continue
            later = reached[reached.index(handler) + 1 :]
            if any(other is not handler and is_like(other) for other in later):
                return logger.name
    return None


def _reached(logger: logging.Logger) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    above: logging.Logger | None = logger
    while above is not None:
        for handler in above.handlers:
            handlers.append(handler)
            # From CPython 3.12 on a QueueHandler of dictConfig knows who reads its queue.
            listener = getattr(handler, "listener", None)
            handlers += getattr(listener, "handlers", ())
        above = above.parent if above.propagate else None
    return handlers
