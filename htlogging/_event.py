"""
Fields → event, or `InvalidEvent` that says what is wrong with them.

The fields have the names that they have in a record's `extra`. Pure: no clock but for
the time zone of a naive timestamp, no I/O, nothing kept.
"""

from __future__ import annotations

import math
import os
from datetime import datetime, timedelta, timezone

from htlogging import _fork
from htlogging._version import __version__
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Type → where its dict goes, and what the type needs besides (README, The fields).
_BODY = {
    "track": "properties",
    "identify": "traits",
    "page": "properties",
    "screen": "properties",
    "group": "traits",
    "alias": None,
}

UTC = timezone.utc

# A naive timestamp this near to the local time of now is taken for `datetime.now()`.
_NOW = timedelta(seconds=5)

# Bits of an int that `str` takes, whatever its limit: that is never under 640 digits.
_PRINTABLE = 2_048

FIELDS = frozenset(
    "ht_type ht_user_id ht_anonymous_id ht_event ht_category ht_name ht_group_id "
    "ht_previous_id ht_properties ht_traits ht_context ht_integrations ht_timestamp "
    "ht_message_id".split()
)


_BODIES = ("ht_properties", "ht_traits")

# Fields of other types than the event's own; they go nowhere.
_OTHER = frozenset("ht_category ht_name ht_group_id ht_previous_id ht_event".split())


def build(
    own: dict[str, Any], bound: Mapping[str, Any], name: str, created: float
) -> dict[str, Any]:
    """
    Make the event that these fields describe.

    Args:
        own: The call's fields: `ht_…` and any others, which join the event's
            `properties` or `traits`. The dict is used up.
        bound: The fields bound to the task; the call's win, dicts are merged.
        name: A track event's name where `ht_event` is not given.
        created: Seconds since the epoch, where `ht_timestamp` is not given.

    Returns:
        The event with the receiver's field names, string ids and an ISO 8601
        timestamp; `properties` or `traits` hold the caller's own values.

    Raises:
        InvalidEvent: A field is missing or has the wrong type. It is named.
    """
    fields = _over(bound, own) if bound else own
    # What is not taken joins the body. Half the time of going through all the names.
    take = fields.pop
    kind = take("ht_type", None)
    if kind is None:
        kind = "track"
    else:
        kind = _text(kind)
        if kind not in _BODY:
            raise InvalidEvent(f"ht_type must be one of these: {', '.join(_BODY)}")
    event: dict[str, Any] = {"type": kind}
    if kind == "track":
        event["event"] = _event_name(take("ht_event", None), name)
    elif kind in ("page", "screen"):
        event["category"] = _optional_text(fields, "ht_category")
        event["name"] = _optional_text(fields, "ht_name")
    elif kind == "group":
        event["groupId"] = _required_id(fields, "ht_group_id", kind)
    elif kind == "alias":
        event["previousId"] = _required_id(fields, "ht_previous_id", kind)
    _put_ids(event, fields, kind)
    context = take("ht_context", None)
    context = {} if context is None else dict(_dict(context, "ht_context"))
    context["library"] = {"name": "htlogging", "version": __version__}
    integrations = take("ht_integrations", None)
    timestamp = timestamp_text(take("ht_timestamp", None), created)
    message_id = take("ht_message_id", None)
    _put_body(event, fields, kind)
    event["context"] = context
    event["integrations"] = (
        {} if integrations is None else dict(_dict(integrations, "ht_integrations"))
    )
    event["timestamp"] = timestamp
    event["messageId"] = (
        new_id() if message_id is None else _id_text(message_id, "ht_message_id")
    )
    return event


def _over(bound: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """
    Lay a call's fields over the bound ones; a `None` there means not given.

    Dicts are merged. A bound one of the body lies below all of the call's own extras.
    """
    kind = own.get("ht_type") or bound.get("ht_type") or "track"
    body = _BODY.get(kind) if isinstance(kind, str) else None
    fields = {k: v for k, v in bound.items() if k not in _BODIES}
    if body is not None:
        fields.update(_dict(bound.get(f"ht_{body}"), f"ht_{body}"))
    fields.update((k, v) for k, v in own.items() if v is not None or k not in FIELDS)
    for name in ("ht_context", "ht_integrations"):
        if name in bound and name in fields:
            fields[name] = {
                **_dict(bound[name], name),
                **_dict(own.get(name), name),
            }
    return fields


def _put_ids(event: dict[str, Any], fields: dict[str, Any], kind: str) -> None:
    user_id = fields.pop("ht_user_id", None)
    if user_id is not None:
        user_id = _id_text(user_id, "ht_user_id")
    anonymous_id = fields.pop("ht_anonymous_id", None)
    if anonymous_id is not None:
        anonymous_id = _id_text(anonymous_id, "ht_anonymous_id")
    if user_id is None:
        if kind == "alias":
            raise InvalidEvent(f"{kind} needs {_both('ht_user_id')}{_strays(fields)}")
        if anonymous_id is None:
            raise InvalidEvent(
                f"{kind} needs ht_user_id or ht_anonymous_id (user_id or "
                "anonymous_id); give one with the call, or bind it for the task with "
                f"htlogging.bind(ht_user_id=...){_strays(fields)}"
            )
    event["userId"] = user_id
    event["anonymousId"] = anonymous_id


def _strays(fields: Mapping[str, Any]) -> str:
    """Point at misspelt names: they join the properties, which is seldom meant."""
    names = [name for name in fields if isinstance(name, str)]  # `extra` takes any
    strays = sorted(n for n in names if n.startswith("ht_") and n not in FIELDS)
    return f"; no such field: {', '.join(strays)}" if strays else ""


def _put_body(event: dict[str, Any], fields: dict[str, Any], kind: str) -> None:
    """Gather `properties` or `traits`: the dict of that name over the other extras."""
    body = _BODY[kind]
    given: dict[str, Any] = {}
    for name in _BODIES:
        value = fields.pop(name, None)
        if value is None:
            continue
        value = _dict(value, name)
        if name == f"ht_{body}":
            given = value
        elif value:
            cure = f"; its dict is ht_{body}" if body else ", which takes neither"
            raise InvalidEvent(f"{name} does not go with {kind}{cure}")
    if body is not None:
        if not _OTHER.isdisjoint(fields):
            for name in _OTHER:
                fields.pop(name, None)
        fields.update(given)
        event[body] = fields


def _dict(value: Any, name: str) -> dict[str, Any]:
    """Return the dict of that name; whatever is falsy counts as an empty one."""
    if value is None:
        return {}
    if type(value) is dict:
        return value
    try:
        if issubclass(type(value), dict):
            return dict(value)
        empty = not value
    except Exception:  # noqa: BLE001
        # User code: a dict of its own kind; an array's truth, say, is an error.
        empty = False
    if empty:
        return {}
    raise InvalidEvent(f"{_both(name)} must be a dict, not {_kind(value)}")


def _event_name(value: Any, message: str) -> str:
    name = _text(message if value is None else value)
    if name is None:
        raise InvalidEvent(
            f"{_both('ht_event')} must be a str that is not empty, not {_kind(value)}"
        )
    if not name:
        raise InvalidEvent(
            f"{_both('ht_event')} is empty; it names the event and its warehouse table"
        )
    return name


def _text(value: Any) -> str | None:
    """Return an exact `str`, or `None` for what is none; `isinstance` can be lied to."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def _optional_text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.pop(name, None)
    if value is None:
        return None
    text = _text(value)
    if text is None:
        raise InvalidEvent(f"{_both(name)} must be a str, not {_kind(value)}")
    return text


def _required_id(fields: dict[str, Any], name: str, kind: str) -> str:
    value = fields.pop(name, None)
    if value is None:
        raise InvalidEvent(f"{kind} needs {_both(name)}{_strays(fields)}")
    return _id_text(value, name)


def _id_text(value: Any, name: str) -> str:
    if type(value) is str and value:
        return value
    if type(value) is int and value.bit_length() < _PRINTABLE:
        return str(value)
    with _fork.importing:
        from htlogging import _values

    text = _values.id_text(value)
    if text:
        return text
    raise InvalidEvent(
        f"{_both(name)} must be a str that is not empty, a finite number or a UUID, "
        f"not {'an empty one' if text == '' else _kind(value)}"
    )


def timestamp_text(value: Any, created: float) -> str:
    """
    Return ISO 8601 with an offset, in milliseconds.

    Args:
        value: An aware `datetime`; a naive one, which is local time when it is within
            5 s of now and UTC otherwise; or `None`.
        created: Seconds since the epoch, for `None`.

    Raises:
        InvalidEvent: It is no `datetime`.
    """
    if value is None:
        return _created_text(created)
    text = None
    if issubclass(type(value), datetime):
        try:
            # pandas.NaT is a datetime that differs from itself, as NaN does.
            text = None if value != value else _iso(value)  # noqa: PLR0124
        except Exception as exc:
            # A tzinfo is user code; the year 1 has no earlier time zones.
            raise InvalidEvent(
                f"{_both('ht_timestamp')} has a time zone that does not work: "
                f"{_kind(exc)}"
            ) from exc
    if text is None:
        raise InvalidEvent(
            f"{_both('ht_timestamp')} must be a datetime, not {_kind(value)}"
        )
    return text


def _iso(value: datetime) -> str:
    offset = value.utcoffset()
    naive = value.replace(tzinfo=None)
    if offset is None:
        # Both naive on purpose: the question is whether this is the clock's own.
        is_local = abs(datetime.now() - naive) <= _NOW  # noqa: DTZ005
        value = naive.astimezone() if is_local else naive.replace(tzinfo=UTC)
    elif offset % timedelta(minutes=1):
        # ISO 8601 has no seconds in an offset; local mean times before 1900 do.
        value = (naive - offset).replace(tzinfo=UTC)
    else:
        value = naive.replace(tzinfo=timezone(offset))
    return datetime.isoformat(value, timespec="milliseconds")


# The last whole second with its text. Replaced as a whole, so that threads and a signal
# handler see a pair that belongs together; a forked child goes on with it.
_second = (0, "")


# By their number; 1,000 may come of rounding. Formatting one takes 0.15 us.
_MILLISECONDS = [f".{n:03d}+00:00" for n in (*range(1000), 999)]


def _created_text(created: float) -> str:
    global _second  # noqa: PLW0603
    whole = math.floor(created)
    second, text = _second
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).isoformat()[:19]
        _second = (whole, text)
    # A float of today holds tenths of microseconds: 0.123 s may be 0.12299999.
    return text + _MILLISECONDS[int((created - whole) * 1000 + 0.0005)]


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_id() -> str:
    """
    Return a random UUID (version 4, RFC 9562) as text.

    From the system's generator at every call: unique across forks and across copies of
    a frozen process, and less than half the time of `str(uuid4())`.
    """
    h = os.urandom(16).hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


def _both(name: str) -> str:
    """Name a field as in `extra` and as the facade's parameter."""
    return f"{name} ({name.removeprefix('ht_')})"


def _kind(value: Any) -> str:
    return type(value).__name__
