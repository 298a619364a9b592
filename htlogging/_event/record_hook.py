"""
Saves what the application gives to a record where logging applies `extra`.

A record alone does not show that. Record factories, tracing tools and the filters and
formatters of other handlers put attributes on it too, before and after. So
`Logger.makeRecord`, which applies `extra`, is wrapped when this module is imported. For
records that may be events the wrapper saves `extra` and the bound fields; it changes nothing
else. Other wrappers and overrides of the method still run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from logging import LogRecord

from htlogging._event import unhandled_events, unknown_fields
from htlogging._event.bindings import current
from htlogging._event.builder import FIELDS
from htlogging._event.origin import BELOW, LOGGER, has_fields, nested, note
from htlogging._process import fork
from htlogging._process.interruption import is_passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _consider(
    record: logging.LogRecord, logger: logging.Logger, name: Any, msg: Any, extra: Any
) -> None:
    """Put an `Origin` on a record if it may be an event."""
    explicit = bool(extra) and (has_fields(extra) or nested(extra) is not None)
    if not explicit and type(msg) is not str:
        explicit = isinstance(msg, Mapping) and has_fields(msg)
    facade = name == LOGGER or (type(name) is str and name.startswith(BELOW))
    if not facade and type(name) is str and len(_others) < _MAX_KNOWN:
        _others.add(name)
    if explicit or facade or _has_ours(logger):
        # loguru makes records with other names by the root logger.
        passed = logger if logger.name == name else None
        fork.detect()
        own = dict(extra) if extra else {}
        note(record, passed, msg, own, current(), explicit)
    if explicit and name not in _looked_at:
        unhandled_events.report(record, logger)


def _has_ours(logger: logging.Logger) -> bool:
    """Return whether the logger has a handler or a formatter of ours."""
    for handler in logger.handlers:
        formatter = handler.formatter
        if hasattr(handler, "makes_events") or hasattr(formatter, "to_event"):
            return True
        for kind in (type(handler), type(formatter)):
            # An object with `__getattr__` may be a wrapper around one of ours.
            if len(_foreign) < _MAX_KNOWN and not hasattr(kind, "__getattr__"):
                _foreign.add(kind)
    return False


# Looked at once, not at each record: names of loggers that are not the facade's, and types
# of handlers and formatters that are not ours. Added to by any thread.
_others: set[str] = set()
_foreign: set[type] = set()

_MAX_KNOWN = 1_000  # names, and types

_looked_at = unhandled_events.known

# Errors of an `extra` of an unusual type, with which logging itself can work. Any other
# error comes from a signal handler, and goes to the caller.
UNUSUAL = (TypeError, ValueError, AttributeError, LookupError, RuntimeError)

# The names in an `extra` with which a record of the standard library's was made, in their
# order, and whether a field is among them. None is the record's own or may be a misspelt
# field. One look-up takes the time of looking at two names. Added to by any thread, up to
# a bound.
_usual: dict[tuple[object, ...], bool] = {}

_MAX_USUAL = 1_000  # tuples of names

# How many attributes such a record has without `extra`; it has more if a tool has changed
# `LogRecord`.
_SIZE = len(vars(LogRecord("", 0, "", 0, "", (), None)))

# Makes an object of the class; unless a tool has changed it, it is `object.__new__`.
_new = LogRecord.__new__


def _apply(fields: dict[str, Any], extra: dict[Any, Any]) -> bool:
    """Apply `extra` as the standard library does; return `False` if that raises."""
    if "message" in extra or "asctime" in extra or not fields.keys().isdisjoint(extra):
        return False
    if (
        len(fields) == _SIZE
        and len(_usual) < _MAX_USUAL
        and all(
            type(name) is str
            and name != "extra"
            and (name in FIELDS or not name.startswith("ht_"))
            for name in extra
        )
    ):
        _usual[tuple(extra)] = not FIELDS.isdisjoint(extra)
    fields.update(extra)
    return True


def _is_plain(extra: Any) -> bool:
    """Return whether the names in an `extra` surely do not begin as a field's."""
    return not extra or (
        type(extra) is dict
        and "extra" not in extra
        and unknown_fields.plain.issuperset(extra)
    )


def _noting(  # noqa: C901
    make: Callable[..., logging.LogRecord],
) -> Callable[..., logging.LogRecord]:
    """Wrap `Logger.makeRecord`."""

    def makeRecord(  # noqa: C901, N802, PLR0912, PLR0913, PLR0917
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
        record: logging.LogRecord
        has_field: bool | None  # whether `extra` has one of ours; `None`: it may have
        if logging._logRecordFactory is _PLAIN and (  # type: ignore[attr-defined]  # noqa: SLF001
            extra is None or type(extra) is dict
        ):
            # As the standard library's method. A call of the class does just these two
            # steps, and takes 0.1 us more.
            record = _new(LogRecord)
            record.__init__(name, level, fn, lno, msg, args, exc_info, func, sinfo)  # type: ignore[misc]
            if extra is not None:
                # All names at once: 0.1 us less for each.
                fields = record.__dict__
                has_field = _usual.get(tuple(extra)) if len(fields) == _SIZE else None
                if has_field is not None:
                    fields |= extra
                elif not _apply(fields, extra):
                    make(  # this raises
                        *(self, name, level, fn, lno, msg, args, exc_info),
                        *(func, extra, sinfo),
                    )
        else:
            record = make(
                self, name, level, fn, lno, msg, args, exc_info, func, extra, sinfo
            )
            has_field = None
        try:
            if extra is not None and has_field:
                # As `_consider` does, for most events: 0.3 us less.
                logger = self if self.name == name else None
                # The record has just asked for it: once more would take 0.1 us.
                if record.process != fork.pid:
                    fork.detect()
                note(record, logger, msg, extra.copy(), current(), True)  # noqa: FBT003
                if name not in _looked_at:
                    unhandled_events.report(record, self)
            elif (
                name in _others
                and type(msg) is str
                and (extra is None or has_field is False or _is_plain(extra))
            ):
                for handler in self.handlers:
                    # Most have no formatter, or the standard library's.
                    if type(handler) not in _foreign or (
                        handler.formatter is not None
                        and type(handler.formatter) not in _foreign
                    ):
                        _consider(record, self, name, msg, extra)
                        break
            else:
                _consider(record, self, name, msg, extra)
        except (RecursionError, MemoryError):
            pass
        except UNUSUAL as exc:
            if is_passing(exc):
                raise
        return record

    return makeRecord


def is_of_logging(function: Any) -> bool:
    """Return whether a function is the standard library's."""
    code = getattr(function, "__code__", None)
    return (
        code is not None
        and code.co_filename == logging.Handler.handle.__code__.co_filename
    )


# Our `Logger.makeRecord` (another tool may have wrapped it later), and whether it makes a
# record in the standard library's way.
ORIGINAL = logging.Logger.makeRecord
MAKE_RECORD = _noting(ORIGINAL)
IS_PLAIN = is_of_logging(ORIGINAL)

# The factory whose records are made without that method; `None`: all are made by it.
_PLAIN = LogRecord if IS_PLAIN and _new is object.__new__ else None
unhandled_events.watch()
logging.Logger.makeRecord = MAKE_RECORD  # type: ignore[method-assign]
