"""
A line of a file → an event's bytes, or an `InvalidEvent` that says what is wrong.

A line has one of two forms: an event as it is sent, which `HtEventsFormatter` writes, or a
plain object with the facade's field names. A valid event as it is sent stays as it is, byte
by byte: its `context.library` says what made it.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta, timezone

from htlogging._event import builder, validation
from htlogging._event.encoder import encode
from htlogging._event.message_id import uuid_text
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

# A name in a file, in the facade's form or as sent → the record's field.
_FIELDS = {
    "type": "ht_type",
    "user_id": "ht_user_id",
    "userId": "ht_user_id",
    "anonymous_id": "ht_anonymous_id",
    "anonymousId": "ht_anonymous_id",
    "group_id": "ht_group_id",
    "groupId": "ht_group_id",
    "previous_id": "ht_previous_id",
    "previousId": "ht_previous_id",
    "message_id": "ht_message_id",
    "messageId": "ht_message_id",
    "event": "ht_event",
    "category": "ht_category",
    "name": "ht_name",
    "properties": "ht_properties",
    "traits": "ht_traits",
    "context": "ht_context",
    "integrations": "ht_integrations",
    "timestamp": "ht_timestamp",
    "originalTimestamp": "ht_timestamp",
}

# A field of some types only → these types; in an event of another type it would be lost.
_OWN = {
    field: [kind for kind, others in builder.OWN.items() if field in others]
    for own in builder.OWN.values()
    for field in own
}

# ISO 8601: a date; with a time; with a fraction and an offset.
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?"
    r"[ ]?(Z|z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)

# Escapes of surrogates: an event of this package has none.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class LineError(InvalidEvent):
    """The line is not an event; the message has no value from it."""


def parse(line: bytes) -> dict[str, Any]:
    """
    Return the JSON object of a line.

    Raises:
        LineError: It is not one.
    """
    try:
        given = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeError:
        raise LineError("it is not UTF-8 text") from None
    except json.JSONDecodeError as exc:
        raise LineError(f"it is not JSON: {exc.msg} at column {exc.colno}") from None
    except ValueError as exc:
        raise LineError(f"it is not JSON: {exc}") from None
    except RecursionError:
        raise LineError("it is nested too deeply") from None
    if not isinstance(given, dict):
        raise LineError("it is not a JSON object")
    return given


def has_id(given: dict[str, Any]) -> bool:
    """Return whether an object has a message id of its own."""
    return (given.get("messageId") or given.get("message_id")) is not None


def event_of(
    line: bytes, given: dict[str, Any], *, message_id: str, created: float, limit: int
) -> bytes:
    """
    Return the event that a line describes, as it is to be sent.

    Args:
        line: Without white space around it.
        given: What `parse` made of it.
        message_id: Used if it has none.
        created: Seconds since the epoch; used if it has no timestamp.
        limit: The most bytes of an event.

    Raises:
        LineError: It is not an event.
        EventTooLarge: The event is over the limit.
    """
    if not validation.problems(given):
        as_it_is = len(line) <= limit and not _HALF.search(line)
        return line if as_it_is else encode(given, limit)
    try:
        event = _build(given, message_id, created)
    except LineError:
        raise
    except InvalidEvent as exc:
        raise LineError(_plain(str(exc))) from None
    return encode(event, limit)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _build(given: dict[str, Any], message_id: str, created: float) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in given.items():
        field = _FIELDS.get(name)
        if field is None:
            raise LineError(f"no such field: {name[:40]}")
        if value is None:
            continue
        if field in fields:
            raise LineError(f"{_plain(field)} is given under two names")
        fields[field] = value
    kind = fields.get("ht_type")
    if not isinstance(kind, str) or kind not in validation.REQUIRED:
        raise LineError(f"type must be one of these: {', '.join(validation.REQUIRED)}")
    for field, kinds in _OWN.items():
        if field in fields and kind not in kinds:
            raise LineError(f"{_plain(field)} does not go with {kind}")
    if kind != "alias" and not fields.keys() & {"ht_user_id", "ht_anonymous_id"}:
        raise LineError(f"{kind} needs user_id or anonymous_id")
    if "ht_timestamp" in fields:
        fields["ht_timestamp"] = _when(fields["ht_timestamp"])
    fields.setdefault("ht_message_id", message_id)
    return builder.build(fields, {}, "", created)


def _when(value: object) -> datetime:
    """Return an aware datetime; without an offset it is UTC."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise LineError("timestamp must be ISO 8601, such as 2024-03-12T09:30:00Z")
    day, clock, fraction, offset = found.groups()
    try:
        # Piece by piece: Python 3.10 reads only a few forms.
        when = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
        micros = int((fraction or "0").ljust(6, "0")[:6])
        return when.replace(microsecond=micros, tzinfo=_zone(offset))
    except ValueError:
        raise LineError("timestamp is a day or time that does not exist") from None


def _zone(offset: str | None) -> timezone:
    if offset is None or offset in "Zz":
        return timezone.utc
    digits = offset[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _plain(text: str) -> str:
    """Return a message with the names of fields in a file, not those in a record."""
    return re.sub(r"ht_(\w+) \(\1\)", r"\1", text).replace("ht_", "")


def id_of(digest: bytes, occurrence: int) -> str:
    """
    Return the message id of a line, the same each time that the file is read.

    It is a UUID (RFC 9562, version 8): a hash of the line, and of the number of equal
    lines before it.
    """
    hashed = hashlib.sha256(digest + occurrence.to_bytes(8, "big"))
    return uuid_text(hashed.hexdigest()[:32], 8)
