"""Records from elsewhere: copies, and those that no logger made."""

from __future__ import annotations

import logging

from htlogging._event import origin, record_hook
from htlogging._event.bindings import current
from htlogging._event.origin import ORIGIN, Origin, has_fields
from htlogging._process import fork
from htlogging._process.interruption import is_passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The attributes of every record in this version of Python, and those of formatters. Not
# from `makeLogRecord`, which calls the installed factory.
BARE = vars(logging.LogRecord("", 0, "", 0, "", (), None))
STANDARD = frozenset(BARE) | {"message", "asctime", "taskName"}

# Attributes that tools put on records, here or on the machine that a record came from.
TOOLS = frozenset(
    "otelSpanID otelTraceID otelServiceName otelTraceSampled elasticapm_labels "
    "elasticapm_transaction_id elasticapm_trace_id elasticapm_span_id "
    "elasticapm_service_name elasticapm_service_environment dd dd.env dd.service "
    "dd.span_id dd.trace_id dd.version _nr_original_message getMessage".split()
)

# Makes the records that `marks` looks at. It has no handler, so nothing of ours is on them.
_LOGGER = logging.Logger("")  # noqa: LOG001


def known_of(record: logging.LogRecord) -> Origin:
    """Return the `Origin` of a record; make one for a record from elsewhere."""
    known = record.__dict__.get(ORIGIN)
    return known if type(known) is Origin else _note(record)


def _note(record: logging.LogRecord) -> Origin:
    """Make the `Origin` of a copy, or of a record that no logger made."""
    now = record.__dict__
    msg = record.msg
    about = now.get(ORIGIN)
    if isinstance(about, dict) and "extra" in about:
        names = {"ht_event", "ht_message_id", *map(str, about.get("extra") or ())}
        names.update(later_fields(now))
        own = {key: value for key, value in now.items() if str(key) in names}
        bound = about.get("bound")
        bound = bound if isinstance(bound, dict) else {}
        msg = _message(about["message"]) if "message" in about else msg
    else:
        hidden = marks()
        own = {key: value for key, value in now.items() if key not in hidden}
        bound = current()
    own = {k: v for k, v in own.items() if k not in STANDARD and k != ORIGIN}
    now.pop(ORIGIN, None)  # it marks where later attributes begin
    fork.detect()
    return origin.note(record, None, msg, own, bound, explicit=has_fields(own))


def _message(about: Any) -> Any:
    """Return a dict message, or an object whose type has the name of another message's."""
    if isinstance(about, dict):
        return about
    return type(about if str(about).isidentifier() else "object", (), {})()


def later(now: dict[Any, Any]) -> list[Any]:
    """Return the attributes that were put on a record after its `Origin`."""
    names = list(now)
    return names[names.index(ORIGIN) + 1 :] if ORIGIN in now else []


def later_fields(now: dict[Any, Any]) -> list[str]:
    """Return the `ht_` fields that were put on a record after its `Origin`."""
    return [n for n in later(now) if isinstance(n, str) and n.startswith("ht_")]


def marks() -> frozenset[Any]:
    """Return the attributes that the factory and wrappers put on every record here."""
    if (
        logging.getLogRecordFactory() is logging.LogRecord
        and logging.Logger.makeRecord is record_hook.MAKE_RECORD
        and record_hook.IS_PLAIN
    ):
        return TOOLS
    try:
        bare = _LOGGER.makeRecord("", 0, "", 0, "", (), None)
    except Exception as exc:
        if is_passing(exc):
            raise
        return TOOLS  # the factory is the application's code
    return TOOLS | frozenset(vars(bare))
