"""LogRecord → event."""

from __future__ import annotations

import logging

from htlogging._bindings import current
from htlogging._event import builder
from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# The facade's logger. It and those below it carry events alone.
LOGGER = "htevents"

# What a record has of itself, in this version of Python, and what formatters add.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}

# Where the facade finds what became of its record (a `Call`). Two underscores would be
# mangled; no `extra` of an application's begins like this.
CALL = "_htlogging_call"

_OURS = STANDARD | {CALL}

# Records of these loggers, and of those below them, are never events: they tell of the
# sending of events.
_NEVER = frozenset({"htlogging", "requests", "urllib3"})


class Call:
    """
    What became of a record that the facade made; handlers fill it in.

    Args:
        handlers: Those that shall take it.
    """

    __slots__ = ("error", "event", "handlers", "queued")

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        self.handlers = handlers
        self.queued = False
        self.event: dict[str, Any] | None = None
        self.error: Exception | None = None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # A copy, made for a socket or another process's queue, is `None`: the record
        # goes through, also to where this package is not.
        return type(None), ()


def to_event(record: logging.LogRecord) -> dict[str, Any]:
    """
    Make the event that a record describes.

    Raises:
        InvalidEvent: A field is missing or has the wrong type. It is named.
    """
    fork.notice()  # before an id is drawn
    own = {k: v for k, v in record.__dict__.items() if k not in _OURS}
    name = record.msg
    if type(name) is not str:
        name = str(name)
    return builder.build(own, current(), name, record.created)


def has_fields(record: logging.LogRecord) -> bool:
    """Tell whether the record was meant as an event: it has an `ht_` field."""
    # Not every name is a str: `extra` takes what can be a key.
    return any(str(name).startswith("ht_") for name in record.__dict__)


def is_dedicated(record: logging.LogRecord, handler: logging.Handler) -> bool:
    """Tell whether the record's logger is there for events: all it logs is one."""
    name = record.name
    logger = logging.root.manager.loggerDict.get(name)
    if isinstance(logger, logging.Logger) and handler in logger.handlers:
        return True
    return isinstance(name, str) and name.startswith(f"{LOGGER}.")


def is_ours(record: logging.LogRecord) -> bool:
    """Tell whether it tells of the sending of events, and so is none."""
    return str(record.name).partition(".")[0] in _NEVER
