"""
What the application gave to a record, saved when the record was made.

The result is on the record as the field `ht_origin`: an `Origin`, and in copies a small dict
of plain JSON types. So a copy of the record (from a `QueueHandler`, a socket, a pickle)
makes the same event as the record itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from htlogging._event import unknown_fields
from htlogging._event.bindings import current
from htlogging._event.builder import FIELDS
from htlogging._event.field_values import late_coercion
from htlogging._event.message_id import new_id
from htlogging._process import fork, loggers
from htlogging._process.interruption import is_passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# The facade's logger. It and those below it carry only events.
LOGGER = loggers.NAME
BELOW = f"{LOGGER}."

# The loggers of these and those below them are about sending.
_SENDING = ("htlogging", "requests", "urllib3")

# The field's name.
ORIGIN = "ht_origin"


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


class Origin(dict[str, object]):
    """
    What is known about a record: an empty dict, so that any tool can print it.

    In a pickle it is only a dict: `extra` has the names in `extra=`, `bound` the bound
    fields, and `message` the fields of a dict message, or the type's name of an object.
    """

    __slots__ = (
        *("bound", "call", "changed", "explicit", "extra", "ids", "logger"),
        *("message_id", "msg", "size", "taken"),
    )

    # The record of a call, and those that filters replaced it with; not copies.
    ids: tuple[int, ...]
    # Its logger, or `None` if it came through none.
    logger: logging.Logger | None
    # The fields in `extra=`, and what the filters of its logger changed in them.
    extra: dict[Any, Any]
    # The fields that were bound when it was made.
    bound: Mapping[str, Any]
    # The message as it was, or as those filters changed it.
    msg: Any
    # Whether it was given an `ht_` field.
    explicit: bool
    # Its outcome, for a record of the facade.
    call: Call | None
    # What the filters of the current handler set and removed.
    changed: tuple[dict[Any, Any], set[Any]] | None
    # The handlers that have taken it.
    taken: tuple[logging.Handler, ...]
    # The event's message id, if none was given.
    message_id: str | None
    # How many attributes the record had at that moment.
    size: int

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        # A dict can be read where this package is not installed.
        about: dict[str, object] = {"extra": list(self.extra)}
        if self.bound:
            about["bound"] = _plain(self.bound)
        if type(self.msg) is not str:
            # A pickled record has the text of the message, which is not the event's name.
            is_dict = isinstance(self.msg, Mapping)
            kind = type(self.msg).__name__
            about["message"] = _plain(self.msg) if is_dict else kind
        return dict, (about,)


def find(record: logging.LogRecord) -> Origin | None:
    """Return what is known about a record, or `None`."""
    origin = record.__dict__.get(ORIGIN)
    return origin if type(origin) is Origin else None


def call_of(record: logging.LogRecord) -> Call | None:
    """Return the outcome to fill in for a record of the facade; not for a copy."""
    origin = record.__dict__.get(ORIGIN)
    if type(origin) is not Origin or origin.call is None:
        return None
    return origin.call if id(record) in origin.ids else None


def is_foreign(
    error: Exception, record: logging.LogRecord, formatter: logging.Formatter | None
) -> bool:
    """
    Return whether an exception goes to the caller as it is.

    A call of the facade raises what a signal handler or another thread raises in it. In
    plain logging, `handleError` gets every error, as in the handlers of the standard
    library. It also gets errors of a formatter, and a lack of stack or memory.
    """
    if call_of(record) is None:
        return False
    if formatter is not None:
        return is_passing(error)
    return not isinstance(error, (RecursionError, MemoryError))


def note(  # noqa: PLR0913, PLR0917
    record: logging.LogRecord,
    logger: logging.Logger | None,
    msg: Any,
    extra: dict[Any, Any],
    bound: Mapping[str, Any],
    explicit: bool,  # noqa: FBT001
) -> Origin:
    """
    Put an `Origin` on a record. Call `fork.detect` before: it generates a message id.

    Args:
        record: The record.
        logger: Its logger, or `None` if it came through none.
        msg: Its message as it was.
        extra: The fields in `extra=`; the dict is kept.
        bound: The fields that are bound.
        explicit: Whether it was given an `ht_` field.
    """
    fields = record.__dict__
    # Without an `__init__`, which would take 0.2 us more.
    origin = Origin()
    origin.logger = logger
    origin.extra = extra
    origin.bound = bound
    if type(msg) is not str and isinstance(msg, str):
        msg = str.__str__(msg)
    origin.msg = msg
    origin.explicit = explicit
    origin.call = None
    origin.ids = ()
    origin.changed = None
    origin.taken = ()
    if type(msg) is str and "ht_event" not in extra:
        kind = extra.get("ht_type") or (bound.get("ht_type") if bound else None)
        if not kind or kind == "track":
            # A copy of the record may have its arguments and a traceback in `msg`.
            fields["ht_event"] = msg
    mine = fields.get("ht_message_id")
    if mine is None:
        fields["ht_message_id"] = mine = new_id()
        origin.message_id = mine
    else:
        origin.message_id = mine if extra.get("ht_message_id") is None else None
    # Whole before others can see it: a signal handler may raise in any call.
    origin.size = len(fields) + (ORIGIN not in fields)
    fields[ORIGIN] = origin
    return origin


def adopt(
    record: logging.LogRecord,
    logger: logging.Logger,
    fields: dict[str, Any],
    call: Call,
) -> None:
    """Put an `Origin` and the fields of a call on a record that the facade made."""
    now = record.__dict__
    # Saved when the record was made, before it had fields.
    now.pop("ht_event", None)
    now.pop(ORIGIN, None)
    now.update(fields)
    fork.detect()
    known = note(record, logger, record.msg, fields, current(), True)  # noqa: FBT003
    known.call = call
    known.ids = (id(record),)


def is_ours(named: logging.LogRecord | logging.Logger) -> bool:
    """Return whether a record, or what a logger logs, is about sending: it is no event."""
    name = named.name
    if type(name) is not str:
        name = str(name)
    return name.startswith(_SENDING) and name.partition(".")[0] in _SENDING


def has_fields(names: Mapping[Any, Any]) -> bool:
    """Return whether there is an `ht_` name."""
    if unknown_fields.plain.issuperset(names):
        return False
    # Not every name is a str: `extra` takes any key.
    if not FIELDS.isdisjoint(names):
        return True
    begun = [n for n in names if isinstance(n, str) and n.startswith("ht_")]
    if begun:
        return begun != [ORIGIN]
    unknown_fields.note(names)
    return False


def nested(extra: Mapping[Any, Any]) -> dict[Any, Any] | None:
    """Return the fields from loguru, which puts a dict into `extra`."""
    inner = extra.get("extra")
    return inner if type(inner) is dict and has_fields(inner) else None


# The most bytes that travel with a record (an event has no room for more), and the most
# nested values.
_TRAVELLING, _DEPTH = 262_144, 64


def _plain(value: Mapping[Any, Any]) -> Any:
    coercion = late_coercion()
    try:
        return coercion.plain(dict(value), _TRAVELLING, _DEPTH)
    except Exception as exc:
        if is_passing(exc):
            raise
        return {}  # too large, or too little stack is left
