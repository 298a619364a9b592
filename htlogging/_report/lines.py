"""A line in the log `htlogging`."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

log = logging.getLogger("htlogging")


def say(line: str, *args: object, level: int = logging.WARNING) -> None:
    """Write a line, and raise nothing."""
    # The application's log handlers and filters run here, on the thread that sends or
    # logs: what they raise must neither cost events nor reach the caller.
    with suppress(Exception):
        # By default a dictConfig that does not name this logger disables it. Losses are
        # reported all the same; whoever wants no lines sets a level or a filter.
        log.disabled = False
        # The handler of last resort shows only the message, so it names the package.
        line = f"{line} [htlogging]"
        with _heard():
            log.log(level, line, *args)


@contextmanager
def _heard() -> Iterator[None]:
    """
    Let a line be a line while the thread is inside a handler: a full queue is one.

    CPython 3.13.4 and 3.13.5 ignore what is logged there (gh-91555, taken back since).
    """
    handling: Any = getattr(logging.Logger, "_tls", None)
    if not getattr(handling, "in_progress", False):
        yield
        return
    handling.in_progress = False
    try:
        yield
    finally:
        handling.in_progress = True


def events(count: int) -> str:
    """Return the word for that many events."""
    return "event" if count == 1 else "events"


def show_debug() -> None:
    """Log every request: the setting `debug`."""
    log.setLevel(logging.DEBUG)
    logger: logging.Logger | None = log
    while logger is not None:
        if not all(hasattr(handler, "makes_events") for handler in logger.handlers):
            return
        logger = logger.parent if logger.propagate else None
    # There is no handler for lines, and the one of last resort shows only warnings.
    log.addHandler(logging.StreamHandler())
