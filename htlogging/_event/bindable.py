"""Which fields can be bound: checked when they are bound, not at the first event."""

from __future__ import annotations

from htlogging._event import builder
from htlogging.exceptions import InvalidEvent, InvalidField

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Field → a type of event that has it; else "track".
_TYPE = {
    "ht_traits": "identify",
    "ht_category": "page",
    "ht_name": "page",
    "ht_group_id": "group",
    "ht_previous_id": "alias",
}

# What every type needs; the message id is fixed, so that none is generated.
_REST = {
    "ht_user_id": "-",
    "ht_group_id": "-",
    "ht_previous_id": "-",
    "ht_message_id": "-",
}

# Names of the facade's parameters and of the event's keys, which are not properties.
_MEANT = {
    name: field
    for field in builder.FIELDS
    if field.endswith("_id")
    for name in (
        field.removeprefix("ht_"),
        field.removeprefix("ht_").removesuffix("_id") + "Id",
    )
}

# Names that a property may have, too; with a dict as value, the field is meant.
_MEANT_AS_DICT = {
    field.removeprefix("ht_"): field
    for field in ("ht_context", "ht_integrations", "ht_properties", "ht_traits")
}


def check(fields: dict[str, Any]) -> dict[str, Any]:
    """
    Return the fields, if events can have them; an empty value for a dict is `{}`.

    Raises:
        InvalidField: There is no such field, or its value has the wrong type.
    """
    for name, value in fields.items():
        if name in builder.FIELDS:
            if value is not None:
                _check_type(name, value)
        elif name.startswith("ht_"):
            raise InvalidField(_no_such(name))
        elif name in _MEANT or (name in _MEANT_AS_DICT and isinstance(value, dict)):
            meant = _MEANT.get(name) or _MEANT_AS_DICT[name]
            raise InvalidField(
                f"{name}: did you mean {meant}? A property of that name goes into "
                f"ht_properties={{{name!r}: ...}}"
            )
    # `None` stays: it removes a value.
    empty: dict[str, Any] = {
        name: {}
        for name in _MEANT_AS_DICT.values()
        if fields.get(name) is not None and not fields[name]
    }
    return {**fields, **empty} if empty else fields


def _check_type(name: str, value: Any) -> None:
    kind = _TYPE.get(name, "track")
    try:
        builder.build({"ht_type": kind, **_REST, name: value}, {}, "-", 0.0)
    except InvalidEvent as exc:
        raise InvalidField(*exc.args) from None


def _no_such(name: str) -> str:
    # Late: needed only for a message.
    from difflib import get_close_matches

    near = get_close_matches(name, builder.FIELDS, 1)
    cure = (
        f"did you mean {near[0]}?" if near else "names that begin with ht_ are reserved"
    )
    return f"there is no field {name}: {cure}"
