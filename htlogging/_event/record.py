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

# The facade's logger. It and those below it carry only events.
LOGGER = "htevents"

# The attributes of every record in this version of Python, and those of formatters.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}

# The attribute with the outcome of the facade's record (a `Call`). Two underscores would be
# mangled; no `extra` of an application begins like this.
CALL = "_htlogging_call"

_OURS = STANDARD | {CALL}

# Records of these loggers and of those below them are never events: they are about sending
# events.
_NEVER = frozenset({"htlogging", "requests", "urllib3"})


class Call:
    """
    The outcome of a record that the facade made; handlers fill it in.

    Args:
        handlers: The handlers that may take it.
    """

    __slots__ = ("error", "event", "handlers", "queued")

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        self.handlers = handlers
        self.queued = False
        self.event: dict[str, Any] | None = None
        self.error: Exception | None = None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # In a pickle, for a socket or another process, it is `None`: so the record can be
        # read where this package is not installed.
        return type(None), ()


def to_event(record: logging.LogRecord) -> dict[str, Any]:
    """
    Make the event that a record describes.

    Raises:
        InvalidEvent: A field is missing or has the wrong type; the message names it.
    """
    fork.notice()  # before a message id is generated
    own = {k: v for k, v in record.__dict__.items() if k not in _OURS}
    name = record.msg
    if type(name) is not str:
        name = str(name)
    return builder.build(own, current(), name, record.created)


def has_fields(record: logging.LogRecord) -> bool:
    """Return whether the record has an `ht_` field, and so is meant as an event."""
    # Not every name is a str: `extra` takes any key.
    return any(str(name).startswith("ht_") for name in record.__dict__)


def is_dedicated(record: logging.LogRecord, handler: logging.Handler) -> bool:
    """Return whether all records of the record's logger are events."""
    name = record.name
    logger = logging.root.manager.loggerDict.get(name)
    if isinstance(logger, logging.Logger) and handler in logger.handlers:
        return True
    return isinstance(name, str) and name.startswith(f"{LOGGER}.")


def is_ours(record: logging.LogRecord) -> bool:
    """Return whether the record is about sending events, and so is not an event."""
    return str(record.name).partition(".")[0] in _NEVER
