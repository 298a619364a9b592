"""
What the application gave to a record: saved where logging applies `extra`.

A record alone does not show that. Record factories, tracing tools and the filters and
formatters of other handlers put attributes on it too, before and after. So
`Logger.makeRecord`, which applies `extra`, is wrapped when this module is imported. For
records that may be events the wrapper saves `extra` and the bound fields; it changes nothing
else. Other wrappers and overrides of the method still run.

The result is on the record as the field `ht_origin`: an `Origin`, and in copies a small dict
of plain JSON types. So a copy of the record (from a `QueueHandler`, a socket, a pickle)
makes the same event as the record itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from htlogging._event.builder import FIELDS
from htlogging._event.message_id import new_id
from htlogging._process import fork
from htlogging._scopes.bindings import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# The facade's logger. It and those below it carry only events.
LOGGER = "htevents"
_BELOW = f"{LOGGER}."

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
    What is known about a record. A copy for another process is only a dict.

    The dict has `extra`, the names in `extra=`. In a pickle it also has `bound`, the bound
    fields, and `message`, the fields of a dict message.

    Args:
        record: The record.
        logger: Its logger, or `None` if it came through none.
        extra: The fields in `extra=`.
        bound: The fields that were bound when it was made.
        explicit: Whether it was given an `ht_` field.
        call: Its outcome, for a record of the facade.
    """

    __slots__ = (
        *("bound", "call", "changed", "explicit", "extra", "ids", "logger"),
        *("message_id", "msg", "size", "taken"),
    )

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        record: logging.LogRecord,
        logger: logging.Logger | None,
        extra: dict[Any, Any],
        bound: Mapping[str, Any],
        explicit: bool,  # noqa: FBT001
        call: Call | None = None,
    ) -> None:
        # The record, and those that filters replaced it with; copies are not among them.
        self.ids: tuple[int, ...] = (id(record),)
        self.logger = logger
        self.extra = extra
        self.bound = bound
        # The message as it was.
        self.msg: Any = record.msg
        self.explicit = explicit
        self.call = call
        # What the filters of the current handler set and removed.
        self.changed: tuple[dict[Any, Any], set[Any]] | None = None
        # The handlers that have taken it.
        self.taken: tuple[logging.Handler, ...] = ()
        # The event's message id, if none was given.
        self.message_id: str | None = None
        # How many attributes the record had at that moment.
        self.size = 0

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        # A dict can be read where this package is not installed.
        about = dict(self)
        if self.bound:
            about["bound"] = _plain(self.bound)
        if isinstance(self.msg, Mapping):
            about["message"] = _plain(self.msg)
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


def note(  # noqa: PLR0913, PLR0917
    record: logging.LogRecord,
    logger: logging.Logger | None,
    extra: dict[Any, Any],
    bound: Mapping[str, Any],
    explicit: bool,  # noqa: FBT001
    call: Call | None = None,
) -> Origin:
    """Put an `Origin` on a record; the parameters are those of `Origin`."""
    origin = Origin(record, logger, extra, bound, explicit, call)
    origin["extra"] = list(extra)
    fields = record.__dict__
    msg = origin.msg
    if (
        type(msg) is str
        and "ht_event" not in extra
        and (extra.get("ht_type") or bound.get("ht_type") or "track") == "track"
    ):
        # A copy of the record may have its arguments and a traceback in `msg`.
        fields["ht_event"] = msg
    if extra.get("ht_message_id") is None:
        mine = fields.get("ht_message_id")
        if mine is None:
            fork.notice()  # before a message id is generated
            fields["ht_message_id"] = mine = new_id()
        origin.message_id = mine
    fields[ORIGIN] = origin
    origin.size = len(fields)
    return origin


def adopt(
    record: logging.LogRecord,
    logger: logging.Logger,
    fields: dict[str, Any],
    call: Call,
) -> None:
    """Put an `Origin` and the fields of a call on a record that the facade made."""
    now = record.__dict__
    now.pop("ht_event", None)  # saved when the record was made, before it had fields
    now.update(fields)
    note(record, logger, fields, current(), True, call)  # noqa: FBT003


def follow(record: logging.LogRecord, other: logging.LogRecord) -> None:
    """Give the `Origin` to a record by which a filter replaced its record."""
    origin = find(record)
    if origin is not None:
        origin.ids += (id(other),)
        other.__dict__[ORIGIN] = origin


def changes(
    before: dict[Any, Any], after: dict[Any, Any]
) -> tuple[dict[Any, Any], set[Any]] | None:
    """Return what was set and what was removed, if anything."""
    put = {k: v for k, v in after.items() if k not in before or before[k] is not v}
    taken = before.keys() - after.keys()
    return (put, taken) if put or taken else None


def has_fields(names: Mapping[Any, Any]) -> bool:
    """Return whether there is an `ht_` name."""
    # Not every name is a str: `extra` takes any key.
    return not FIELDS.isdisjoint(names) or any(
        isinstance(name, str) and name.startswith("ht_") and name != ORIGIN
        for name in names
    )


def nested(extra: Mapping[Any, Any]) -> dict[Any, Any] | None:
    """Return the fields from loguru, which puts a dict into `extra`."""
    inner = extra.get("extra")
    return inner if type(inner) is dict and has_fields(inner) else None


def _consider(
    record: logging.LogRecord, logger: logging.Logger, name: Any, extra: Any
) -> None:
    """Put an `Origin` on a record if it may be an event."""
    given = dict(extra) if extra else {}
    explicit = bool(given) and (has_fields(given) or nested(given) is not None)
    if not explicit and type(record.msg) is not str:
        explicit = isinstance(record.msg, Mapping) and has_fields(record.msg)
    if (
        explicit
        or name == LOGGER
        or (type(name) is str and name.startswith(_BELOW))
        or any(map(_is_ours, logger.handlers))
    ):
        # loguru makes records with other names by the root logger.
        passed = logger if logger.name == name else None
        note(record, passed, given, current(), explicit)


def _is_ours(handler: Any) -> bool:
    return hasattr(handler, "makes_events") or hasattr(handler.formatter, "to_event")


# The most bytes that travel with a record (an event has no room for more), and the most
# nested values.
_TRAVELLING, _DEPTH = 262_144, 64


def _plain(value: Mapping[Any, Any]) -> Any:
    with fork.importing:
        from htlogging._event import coercion
    try:
        return coercion.plain(dict(value), _TRAVELLING, _DEPTH)
    except Exception:  # noqa: BLE001
        return {}  # too large, or too little stack is left


def _noting(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Wrap `Logger.makeRecord`."""

    def makeRecord(  # noqa: N802, PLR0913, PLR0917
        self: logging.Logger,
        name: Any,
        level: Any,
        fn: Any,
        lno: Any,
        msg: Any,
        args: Any,
        exc_info: Any,
        func: Any = None,
        extra: Any = None,
        sinfo: Any = None,
    ) -> logging.LogRecord:
        record = make(
            self, name, level, fn, lno, msg, args, exc_info, func, extra, sinfo
        )
        if extra or self.handlers or type(msg) is not str or name[:8] == LOGGER:
            try:
                if type(extra) is dict and not FIELDS.isdisjoint(extra):
                    # As below, for most events: 0.3 us less.
                    logger = self if self.name == name else None
                    note(record, logger, extra.copy(), current(), True)  # noqa: FBT003
                else:
                    _consider(record, self, name, extra)
            except (
                TypeError,
                ValueError,
                AttributeError,
                LookupError,
                RuntimeError,
                MemoryError,
            ):
                # For example an `extra` of an unusual type, which logging itself can use.
                # What else there is a signal handler has raised.
                pass
        return record

    return makeRecord


def _is_of_logging(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return (
        code is not None
        and code.co_filename == logging.Handler.handle.__code__.co_filename
    )


# Our `Logger.makeRecord` (another tool may have wrapped it later), and whether it makes a
# record in the standard library's way.
ORIGINAL = logging.Logger.makeRecord
MAKE_RECORD = _noting(ORIGINAL)
IS_PLAIN = _is_of_logging(ORIGINAL)
logging.Logger.makeRecord = MAKE_RECORD  # type: ignore[method-assign]
