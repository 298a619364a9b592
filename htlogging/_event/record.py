"""LogRecord → event."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from htlogging._event import builder, filter_hook, origin, unknown_fields
from htlogging._event.foreign_records import (
    BARE,
    STANDARD,
    known_of,
    later,
    later_fields,
    marks,
)
from htlogging._event.origin import (
    LOGGER,
    ORIGIN,
    Origin,
    has_fields,
    is_ours,
)
from htlogging._process.loggers import handlers
from htlogging._process.threads import is_sending
from htlogging.exceptions import HtLoggingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Attributes that structlog puts on a record for its formatter, with a dict message; and the
# names in this dict that are not fields.
_STRUCTLOG = frozenset({"_logger", "_name", "_record", "_from_structlog"})
_ITS_OWN = frozenset({"exc_info", "stack_info", "stacklevel", "positional_args"})

# Names in `extra=` that `given` treats separately.
_UNUSUAL = frozenset({"extra", "taskName"})

# The classes of loggers that filter as logging does.
_CLASSES = (logging.Logger, logging.RootLogger)


class NotAnEvent(HtLoggingError, TypeError):
    """What a formatter returned is no event. The text names only types."""


def checked(made: Any, maker: str) -> dict[str, Any]:
    """Return what a formatter has made, or raise `NotAnEvent`."""
    if isinstance(made, dict) and made:
        return made
    what = "an empty dict" if isinstance(made, dict) else type(made).__name__
    raise NotAnEvent(
        f"{maker} returned {what}; it must return a dict that is not empty"
    )


def to_event(record: logging.LogRecord) -> dict[str, Any]:
    """
    Make the event that a record describes.

    Raises:
        InvalidEvent: A field is missing or has the wrong type; the message names it.
    """
    known = record.__dict__.get(ORIGIN)
    if (
        type(known) is Origin
        and len(record.__dict__) == known.size
        and type(known.msg) is str
        and (known.explicit or "ht_" not in known.msg)
        and known.call is None
        and known.changed is None
        and not _overrides_filter(known)
        and _UNUSUAL.isdisjoint(known.extra)
    ):
        # What `given` returns for most records: 0.3 us less.
        own = known.extra.copy()
        if known.message_id is not None:
            own["ht_message_id"] = known.message_id
        return builder.build(own, known.bound, known.msg, record.created)
    own, bound, name = given(record)
    return builder.build(own, bound, name, record.created)


def given(record: logging.LogRecord) -> tuple[dict[Any, Any], Mapping[str, Any], Any]:
    """
    Return the event's own fields, the bound fields, and the name.

    Its own fields are those in `extra=`, those of a dict message, and those that filters
    of the record's logger or of the current handler changed.

    Raises:
        InvalidEvent: The fields are part of the message's text.
    """
    known = known_of(record)
    own, name = dict(known.extra), known.msg
    if known.call is not None:
        name = None  # the facade's event has its own name, or none
    if (
        len(record.__dict__) != known.size
        or known.changed is not None
        or _overrides_filter(known)
    ):
        name = _amend(own, record, known, name)
    if not known.explicit:
        unknown_fields.refuse_rendered(name)
    if type(name) is not str and isinstance(name, Mapping):
        hidden = frozenset() if _STRUCTLOG.isdisjoint(own) else _ITS_OWN
        fields = {k: v for k, v in name.items() if k not in hidden}
        name = fields.pop("event", None)
        own = {**fields, **{k: v for k, v in own.items() if k not in _STRUCTLOG}}
    elif "extra" in own:
        inner = origin.nested(own)
        if inner is not None:
            del own["extra"]
            own = {**inner, **own}
            # loguru appends a line break and the traceback.
            name = str(name).partition("\n")[0].rstrip("\r")
    if known.message_id is not None and own.get("ht_message_id") is None:
        own["ht_message_id"] = known.message_id
    return own, known.bound, name


def _amend(
    own: dict[Any, Any], record: logging.LogRecord, known: Origin, name: Any
) -> Any:
    """
    Add what was put on the record later to the fields, and return the name.

    Changes by filters and formatters of other handlers do not count.
    """
    now = record.__dict__
    if not _is_preceded(known):
        _add_later(own, now, known)
    if known.changed is not None:
        filter_hook.apply(own, known.changed)
        if known.call is None and "msg" in known.changed[0]:
            return record.msg
    return name


def _add_later(own: dict[Any, Any], now: dict[Any, Any], known: Origin) -> None:
    """Add what a record got from its logger's class, or from who made it."""
    if not _overrides_filter(known):
        own.update((k, now[k]) for k in later_fields(now) if k not in own)
        return
    hidden = marks() | STANDARD
    for key in own.keys() - now.keys():
        del own[key]
    own.update((k, now[k]) for k in (*own, *later(now)) if k not in hidden or k in own)


def _overrides_filter(known: Origin) -> bool:
    """Return whether the record's logger has a method of its own that filters."""
    logger = known.logger
    if logger is None:
        return False
    if type(logger) in _CLASSES:
        return "filter" in logger.__dict__
    # Not by comparing methods: `wrapt` makes another object of a method at each look.
    kinds = type(logger).__mro__
    above = kinds[: kinds.index(logging.Logger)]
    return any("filter" in each.__dict__ for each in (logger, *above))


def _is_preceded(known: Origin) -> bool:
    """Return whether a handler before ours may have changed the record."""
    for handler in handlers(known.logger):
        if getattr(handler, "makes_events", False):
            return False
        if hasattr(handler.formatter, "to_event"):
            return False
        if handler.filters or type(handler.formatter) not in _HARMLESS:
            return True
    return False


# Formatters that put only `message`, `asctime` and the like on a record.
_HARMLESS = (type(None), logging.Formatter)


def logger_of(record: logging.LogRecord, known: Origin | None) -> logging.Logger | None:
    """Return the logger of a record's name, if it exists."""
    if known is not None and known.logger is not None:
        return known.logger
    if record.name == logging.root.name:
        return logging.root
    logger = logging.root.manager.loggerDict.get(record.name)
    return logger if isinstance(logger, logging.Logger) else None


def is_explicit(record: logging.LogRecord, known: Origin | None) -> bool:
    """Return whether the record was given an `ht_` field, and so is meant as an event."""
    now = record.__dict__
    if known is None:
        # Most records have only the usual attributes.
        if len(now) <= len(BARE) and type(record.msg) is str:
            return False
        return (
            # Tools' marks are looked for only where a name may be a field's.
            (has_fields(now) and has_fields(_unmarked(now)))
            or (
                type(record.msg) is not str
                and isinstance(record.msg, Mapping)
                and has_fields(record.msg)
            )
            or origin.nested(now) is not None
        )
    if known.explicit or len(now) == known.size or _is_preceded(known):
        return known.explicit
    # A bridge may have added a field, for example.
    return bool(later_fields(now))


def _unmarked(now: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a record's attributes without those that tools here put on every record."""
    hidden = marks() if len(now) > len(BARE) else ()
    return {k: v for k, v in now.items() if k not in hidden}


def is_dedicated(
    record: logging.LogRecord, handler: logging.Handler, known: Origin | None
) -> bool:
    """Return whether all records of the record's logger are events."""
    logger = logger_of(record, known)
    # The root logger, which has no parent, carries the records of all code.
    if logger is not None and logger.parent and handler in logger.handlers:
        return True
    name = record.name
    return name == LOGGER or (isinstance(name, str) and name.startswith(f"{LOGGER}."))


def is_event(
    record: logging.LogRecord, known: Origin | None, handler: logging.Handler
) -> bool:
    """
    Return whether a record is an event for a handler of ours.

    Args:
        record: Any record.
        known: What is known about it.
        handler: The handler that has got it.
    """
    if known is not None:
        call = known.call
        if call is None:
            if known.explicit and (
                record.name == LOGGER
                or (len(record.__dict__) == known.size and not is_ours(record))
            ):
                return True
        elif record.name != LOGGER or origin.call_of(record) is call:
            # A client's is only its handlers', also when it comes through a queue.
            return handler in call.handlers
    if is_ours(record):
        return False
    if is_explicit(record, known):
        return True
    return is_dedicated(record, handler, known) and not is_sending()
