"""
The value of one field: checked, and turned into what the event has.

Each function raises `InvalidEvent` for a value that the field may not have. The message
names the field and the value's type, never the value.
"""

from __future__ import annotations

from collections.abc import Mapping

from htlogging._event import iso8601
from htlogging._process import fork
from htlogging._process.interruption import is_passing
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Bits. `str` takes an int of this size whatever its limit, which is at least 640 digits.
_PRINTABLE = 2_048


def as_dict(value: Any, name: str) -> dict[str, Any]:
    """Return the dict of this field; a falsy value counts as an empty dict."""
    if value is None:
        return {}
    if type(value) is dict:
        return value
    try:
        if issubclass(type(value), Mapping):
            return dict(value)
        empty = not value
    except Exception as exc:
        if is_passing(exc):
            raise
        # User code: a mapping, or the truth of an array, may raise.
        empty = False
    if empty:
        return {}
    raise InvalidEvent(f"{_both(name)} must be a dict, not {_kind(value)}")


def event_name(value: Any, *, is_alone: bool) -> str:
    """
    Return the name of a track event.

    Args:
        value: The name, of any type.
        is_alone: Whether the call gave no properties.
    """
    name = "" if value is None else as_text(value)
    if name is None:
        raise InvalidEvent(
            f"{_both('ht_event')} must be a str that is not empty, not {_kind(value)}; "
            "so must the message of a record that has no ht_event"
        )
    if value is None and is_alone:
        raise InvalidEvent(
            f"track needs {_both('ht_event')}; its first argument is the user's id: "
            "write track(user_id, event)"
        )
    if not name:
        raise InvalidEvent(
            f"{_both('ht_event')} is empty; it names the event and its warehouse table"
        )
    if name.splitlines() != [name]:
        raise InvalidEvent(
            f"{_both('ht_event')} has a line break; it names the event and its "
            "warehouse table: give texts as properties"
        )
    return name


def as_text(value: Any) -> str | None:
    """Return an exact `str`, or `None` for another type; an object can fool `isinstance`."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def optional_text(value: Any, name: str) -> str | None:
    """Return the text of a field that may be missing."""
    if value is None:
        return None
    text = as_text(value)
    if text is None:
        raise InvalidEvent(f"{_both(name)} must be a str, not {_kind(value)}")
    return text


def required_id(value: Any, name: str, kind: str) -> str:
    """Return an id that events of this kind must have."""
    if value is None:
        raise InvalidEvent(f"{kind} needs {_both(name)}")
    return id_text(value, name)


@fork.late_import
def late_coercion() -> ModuleType:
    """Return the module for values that are not plain; most events do without it."""
    from htlogging._event import coercion

    return coercion


def id_text(value: Any, name: str) -> str:
    """Return an id as text: of a `str`, a finite number or a UUID."""
    if type(value) is str and value:
        return value
    if type(value) is int and value.bit_length() < _PRINTABLE:
        return str(value)
    text: str | None = late_coercion().id_text(value)
    if text:
        return text
    raise InvalidEvent(
        f"{_both(name)} must be a str that is not empty, a finite number or a UUID, "
        f"not {'an empty one' if text == '' else _kind(value)}"
    )


def timestamp_text(value: Any) -> str:
    """Return a `datetime` as ISO 8601 text with an offset."""
    try:
        text = iso8601.timestamp_text(value)
    except Exception as exc:
        if is_passing(exc):
            raise
        # A tzinfo is user code; and in the year 1 a conversion may leave the calendar.
        raise InvalidEvent(
            f"{_both('ht_timestamp')} has a time zone that does not work: {_kind(exc)}"
        ) from exc
    if text is None:
        raise InvalidEvent(
            f"{_both('ht_timestamp')} must be a datetime, not {_kind(value)}"
        )
    return text


def _both(name: str) -> str:
    """Name a field as in `extra` and as the facade's parameter."""
    return f"{name} ({name.removeprefix('ht_')})"


def _kind(value: Any) -> str:
    return type(value).__name__
