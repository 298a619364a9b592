"""Two handlers that send the same record: a configuration that is seldom meant."""

from __future__ import annotations

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def reached_twice(
    handler: logging.Handler, is_like: Callable[[logging.Handler], bool]
) -> str | None:
    """
    Return the name of a logger whose records reach a handler, then another like it.

    Args:
        handler: The one.
        is_like: Whether one that is not `handler` sends to the same place.
    """
    # A copy: other threads make loggers meanwhile.
    loggers = list(logging.root.manager.loggerDict.values())
    for logger in (logging.root, *loggers):
        # Those without handlers of their own reach what loggers above reach.
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
        handlers += above.handlers
        above = above.parent if above.propagate else None
    return handlers
