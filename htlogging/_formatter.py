"""LogRecord → event → JSON, for any handler of the standard library."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from htlogging._event import builder
from htlogging._event.bindings import current
from htlogging._event.encoder import encode, prefer_orjson
from htlogging._event.foreign_records import STANDARD
from htlogging._event.record import NotAnEvent, checked, given
from htlogging._process import fork
from htlogging._settings import DEFAULTS, MAX_EVENT_LIMIT
from htlogging.exceptions import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

# Methods that write an event as text.
_WRITERS = ("format", "jsonify_log_record", "serialize_log_record")

# Options of python-json-logger that say how JSON is written; an event's is compact, and
# each value has one form.
_FIXED = ("json_default", "json_encoder", "json_indent", "json_serializer")


class HtEventsFormatter(JsonFormatter):
    """
    Format records as Hightouch events, one line of JSON each.

    Use it on a `StreamHandler` whose output a log shipper reads, or on a `FileHandler`.
    Every record becomes an event: on a logger that carries ordinary records too, filter
    those out. It takes the options of python-json-logger; `static_fields` joins every
    event.

    A subclass can change events in `process_log_record`. `HtEventsHandler` uses that
    method too; of a subclass that writes the JSON itself it reads what `format` returns.

    Args:
        max_event_size: The most UTF-8 bytes of an event.

    Raises:
        InvalidSetting: An option says how JSON is to be written.
    """

    def __init__(
        self,
        fmt: Any = None,
        *args: Any,
        max_event_size: int = DEFAULTS["max_event_size"],
        **kwargs: Any,
    ) -> None:
        refused = [name for name in _FIXED if kwargs.get(name) is not None]
        if kwargs.get("json_ensure_ascii"):
            refused.append("json_ensure_ascii")
        if refused:
            raise InvalidSetting(
                f"HtEventsFormatter has no {', '.join(refused)}: an event is one line of "
                "compact UTF-8 JSON; change its values in process_log_record"
            )
        super().__init__(fmt, *args, **kwargs)
        if not fmt:
            # The default, "%(message)s", is for lines that people read.
            self._required_fields = []
        # The attributes that a `_View` has. python-json-logger's own method leaves most of
        # them out, so without them it takes half the time.
        self._shown = frozenset(self._required_fields)
        if type(self).add_fields is JsonFormatter.add_fields:
            self._shown |= STANDARD - self.reserved_attrs
        else:
            self._shown |= STANDARD
        self.max_event_size = min(max_event_size, MAX_EVENT_LIMIT)

    _writes = False  # whether a subclass has a method of `_WRITERS`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._writes = any(
            getattr(cls, name) is not getattr(HtEventsFormatter, name)
            for name in _WRITERS
        )

    def format(self, record: logging.LogRecord) -> str:
        """
        Return the event as JSON without a line break.

        Raises:
            InvalidEvent: The record does not make an event. A handler's `emit` passes
                it to `handleError`, like every error of formatting.
        """
        return self.serialize_log_record(self.to_event(record))

    def to_event(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the event as a dict; raise what `format` raises."""
        # As every formatter of the standard library does, if its format names them.
        if "message" in self._required_fields:
            record.message = record.getMessage()
        if "asctime" in self._required_fields:
            record.asctime = self.formatTime(record, self.datefmt)
        own, bound, name = given(record)
        fields = _Fields()
        fields.bound = bound
        fields.alike = {k: own[k] for k in ("msg", "created") if k in own}
        self.add_fields(fields, _View(record, own, self._shown), {})
        # python-json-logger hides some of these names; an event may use them.
        fields.update(
            (key, value)
            for key, value in own.items()
            if str(key).startswith("_") or key in STANDARD
        )
        fields["msg"] = name
        fields["created"] = record.created
        maker = f"{type(self).__name__}.process_log_record"
        return dict(checked(self.process_log_record(fields), maker))

    def sent_event(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the event that `HtEventsHandler` sends; raise what `format` raises."""
        if not self._writes:
            return self.to_event(record)
        written: Any = self.format(record)
        maker = f"{type(self).__name__}.format"
        try:
            event = json.loads(written)
        except (TypeError, ValueError):
            raise NotAnEvent(
                f"{maker} returned no JSON; an event is an object"
            ) from None
        return checked(event, f"{maker}, read as JSON,")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """
        Turn the fields of a record into an event.

        Args:
            log_data: What `add_fields` gathered: `ht_…`, other extras, and the record's
                `msg` and `created`.
        """
        fork.detect()  # before a message id is made
        name = log_data.pop("msg", "")
        created = log_data.pop("created", 0.0)
        bound = current()
        if isinstance(log_data, _Fields):  # else a subclass made another dict
            bound = log_data.bound
            log_data.update(log_data.alike)
        # An exact dict: of a subclass the encoder would convert all values in Python, in
        # 30 us.
        return builder.build(dict(log_data), bound, name, created)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return an event as compact JSON, every value made valid."""
        # Not in the constructor: `dictConfig` holds logging's lock there, and an import on
        # a sending thread may be waiting for that lock.
        prefer_orjson()
        return encode(log_data, self.max_event_size).decode()


class _Fields(dict[str, Any]):
    """The fields of a record. Without an `__init__`, which would take 0.3 us."""

    __slots__ = ("alike", "bound")

    # What was bound where it was made.
    bound: Mapping[str, Any]
    # Fields of a dict message that have the name of an attribute that is used.
    alike: dict[str, Any]


class _View(logging.LogRecord):
    """A record with the event's own extras, and those attributes that are shown."""

    def __init__(
        self, record: logging.LogRecord, own: Mapping[Any, Any], shown: frozenset[str]
    ) -> None:
        now = record.__dict__
        seen = {k: v for k, v in own.items() if k not in STANDARD}
        if shown:
            seen.update((k, now[k]) for k in shown if k in now)
        seen["_record"] = record
        self.__dict__ = seen

    def __getattr__(self, name: str) -> Any:
        # Whatever else a subclass looks for.
        return getattr(self.__dict__["_record"], name)
