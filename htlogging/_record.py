"""LogRecord → event."""

from __future__ import annotations

import logging

from htlogging import _event, context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
        handler: The only one that shall take it, or `None`.
    """

    __slots__ = ("error", "event", "handler", "queued", "taken")

    def __init__(self, handler: logging.Handler | None = None) -> None:
        self.handler = handler
        self.taken = False  # whether a handler of ours looked at it
        self.queued = False
        self.event: dict[str, Any] | None = None
        self.error: Exception | None = None


def to_event(record: logging.LogRecord) -> dict[str, Any]:
    """
    Make the event that a record describes.

    Raises:
        InvalidEvent: A field is missing or has the wrong type. It is named.
    """
    own = {k: v for k, v in record.__dict__.items() if k not in _OURS}
    name = record.msg if isinstance(record.msg, str) else str(record.msg)
    return _event.build(own, context.get(), name, record.created)


def has_fields(record: logging.LogRecord) -> bool:
    """Tell whether the record was meant as an event: it has an `ht_` field."""
    return any(name.startswith("ht_") for name in record.__dict__)


def is_ours(record: logging.LogRecord) -> bool:
    """Tell whether it tells of the sending of events, and so is none."""
    return record.name.partition(".")[0] in _NEVER
