"""LogRecord → event → JSON, for any handler of the standard library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from htlogging._bindings import current
from htlogging._event import builder
from htlogging._event.encoder import encode, prefer_orjson
from htlogging._event.record import CALL
from htlogging._process import fork
from htlogging._settings import DEFAULTS, MAX_EVENT_LIMIT

if TYPE_CHECKING:
    import logging


class HtEventsFormatter(JsonFormatter):
    """
    Format records as Hightouch events, one line of JSON each.

    Use it on a `StreamHandler` whose output a log shipper reads, or on a `FileHandler`.
    Every record becomes an event: on a logger that carries ordinary records too, filter
    those out. It takes the options of python-json-logger; `static_fields` joins every
    event.

    A subclass can change events in `process_log_record`. `HtEventsHandler` uses that
    method too.

    Args:
        max_event_size: The most UTF-8 bytes of an event.
    """

    def __init__(
        self,
        fmt: Any = None,
        *args: Any,
        max_event_size: int = DEFAULTS["max_event_size"],
        **kwargs: Any,
    ) -> None:
        super().__init__(fmt, *args, **kwargs)
        if not fmt:
            # The default, "%(message)s", is for lines that people read.
            self._required_fields = []
        self.max_event_size = min(max_event_size, MAX_EVENT_LIMIT)

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
        fields: dict[str, Any] = {}
        # As every formatter of the standard library does, if its format names them.
        if "message" in self._required_fields:
            record.message = record.getMessage()
        if "asctime" in self._required_fields:
            record.asctime = self.formatTime(record, self.datefmt)
        self.add_fields(fields, record, {})
        # python-json-logger hides these; in an event an extra of any name counts.
        fields.update(
            (name, value)
            for name, value in record.__dict__.items()
            if str(name).startswith("_") and name != CALL
        )
        fields["msg"] = record.msg
        fields["created"] = record.created
        return self.process_log_record(fields)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """
        Turn the fields of a record into an event.

        Args:
            log_data: What `add_fields` gathered: `ht_…`, other extras, and the record's
                `msg` and `created`.
        """
        fork.notice()  # before a message id is made
        name = log_data.pop("msg", "")
        created = log_data.pop("created", 0.0)
        return builder.build(log_data, current(), str(name), created)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return an event as compact JSON, every value made valid."""
        # Not in the constructor: `dictConfig` holds logging's lock there, and an import on
        # a sending thread may be waiting for that lock.
        prefer_orjson()
        return encode(log_data, self.max_event_size).decode()
