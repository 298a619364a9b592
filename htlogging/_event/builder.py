"""
Fields → event, or an `InvalidEvent` that says what is wrong.

The fields have the names of a record's `extra`. The code is pure, except for the message id
and the time zone of a naive timestamp.
"""

from __future__ import annotations

from htlogging._event.field_values import (
    as_dict,
    as_text,
    event_name,
    id_text,
    optional_text,
    required_id,
    timestamp_text,
)
from htlogging._event.iso8601 import iso
from htlogging._event.message_id import new_id
from htlogging._version import __version__
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# Type → the name of its dict.
BODY = {
    "track": "properties",
    "identify": "traits",
    "page": "properties",
    "screen": "properties",
    "group": "traits",
    "alias": None,
}

# Type → its own fields, besides those that all types have.
OWN: dict[str, tuple[str, ...]] = {
    "track": ("ht_event",),
    "identify": (),
    "page": ("ht_category", "ht_name"),
    "screen": ("ht_category", "ht_name"),
    "group": ("ht_group_id",),
    "alias": ("ht_previous_id",),
}

FIELDS = frozenset(
    "ht_type ht_user_id ht_anonymous_id ht_event ht_category ht_name ht_group_id "
    "ht_previous_id ht_properties ht_traits ht_context ht_integrations ht_timestamp "
    "ht_message_id".split()
)


_BODIES = ("ht_properties", "ht_traits")

# Fields of other types of event; they are left out.
_OTHER = frozenset(name for names in OWN.values() for name in names)

# Fields that most records do not have.
_RARE = FIELDS - {"ht_type", "ht_event", "ht_user_id", "ht_message_id"}


def build(
    own: dict[str, Any], bound: Mapping[str, Any], name: Any, created: float
) -> dict[str, Any]:
    """
    Make the event that these fields describe.

    Args:
        own: The call's fields: `ht_…` and any others, which join the event's
            `properties` or `traits`. The dict is changed.
        bound: The bound fields. The call's fields win; dicts are merged.
        name: A track event's name if `ht_event` is not given.
        created: Seconds since the epoch; used if `ht_timestamp` is not given.

    Returns:
        The event with the receiver's field names, string ids and an ISO 8601
        timestamp; `properties` or `traits` hold the caller's own values.

    Raises:
        InvalidEvent: A field is missing or has the wrong type; the message names it.
    """
    fields = _over(bound, own) if bound else own
    # The fields that are left join the body. Twice as fast as looking at all the names.
    take = fields.pop
    kind = take("ht_type", None)
    if kind is None:
        kind = "track"
    else:
        kind = as_text(kind)
        if kind not in BODY:
            raise InvalidEvent(f"ht_type must be one of these: {', '.join(BODY)}")
    special = [take(field, None) for field in OWN[kind]]
    if kind == "track" and special[0] is None:
        special[0] = name
    user_id = take("ht_user_id", None)
    message_id = take("ht_message_id", None)
    anonymous_id = context = timestamp = integrations = body = None
    try:
        if kind != "track" or not _RARE.isdisjoint(fields):
            anonymous_id = take("ht_anonymous_id", None)
            context = take("ht_context", None)
            timestamp = take("ht_timestamp", None)
            integrations = take("ht_integrations", None)
            body = _take_body(fields, kind)
        given = (
            kind,
            special,
            user_id,
            anonymous_id,
            body,
            context,
            timestamp,
            integrations,
            message_id,
        )
        return make(fields, created, given)
    except InvalidEvent as exc:
        exc.args = (f"{exc}{_strays(fields)}",)
        raise


def make(  # noqa: C901
    extras: dict[str, Any], created: float, given: Sequence[Any]
) -> dict[str, Any]:
    """
    Make an event, as `build` does. Passing each argument would take 0.1 us more.

    Args:
        extras: Merged under its properties or traits; the dict becomes the event's.
        created: As in `build`.
        given: What a call gave: the event's type, a sequence of the fields that only this
            type has (`OWN`), and its user id, anonymous id, properties or traits,
            context, timestamp, integrations and message id; `None` means not given.
    """
    (
        kind,
        special,
        user_id,
        anonymous_id,
        body,
        context,
        timestamp,
        integrations,
        message_id,
    ) = given
    # A typical event takes 1.3 us here, and each call of a helper 0.1 us: so a helper is
    # called only for unusual values.
    event: dict[str, Any]
    if kind == "track":
        (name,) = special
        # A line break is not printable; this check takes 0.03 us.
        if type(name) is not str or not name or not name.isprintable():
            name = event_name(name, is_alone=not extras and body is None)
    else:
        event = _head(kind, special)
    if user_id is not None:
        if type(user_id) is not str or not user_id:
            user_id = id_text(user_id, "ht_user_id")
    elif kind == "alias":
        user_id = required_id(user_id, "ht_user_id", kind)
    elif anonymous_id is None:
        raise InvalidEvent(
            f"{kind} needs ht_user_id or ht_anonymous_id (user_id or anonymous_id); give "
            "one with the call, or bind it for the task with "
            "htlogging.bind(ht_user_id=...)"
        )
    if anonymous_id is not None:
        anonymous_id = id_text(anonymous_id, "ht_anonymous_id")
    context = {} if context is None else dict(as_dict(context, "ht_context"))
    context["library"] = {"name": "htlogging", "version": __version__}
    stamp = iso(created) if timestamp is None else timestamp_text(timestamp)
    integrations = (
        {} if integrations is None else dict(as_dict(integrations, "ht_integrations"))
    )
    message_id = (
        new_id() if message_id is None else id_text(message_id, "ht_message_id")
    )
    if kind == "track":
        # At once: adding one after the other takes 0.1 us more.
        event = {
            "type": kind,
            "event": name,
            "userId": user_id,
            "anonymousId": anonymous_id,
            "properties": extras,
            "context": context,
            "integrations": integrations,
            "timestamp": stamp,
            "messageId": message_id,
        }
        name = "properties"
    else:
        event["userId"] = user_id
        event["anonymousId"] = anonymous_id
        name = BODY[kind]
        if name is not None:
            event[name] = extras
        event["context"] = context
        event["integrations"] = integrations
        event["timestamp"] = stamp
        event["messageId"] = message_id
    # Last: if something is wrong, `extras` still has what else the call gave.
    if body is not None and name is not None:
        extras.update(as_dict(body, f"ht_{name}"))
    return event


def _head(kind: str, special: Sequence[Any]) -> dict[str, Any]:
    """Return the first fields of an event other than track."""
    if kind == "identify":
        return {"type": kind}
    if kind == "group":
        return {"type": kind, "groupId": required_id(special[0], "ht_group_id", kind)}
    if kind == "alias":
        previous_id = required_id(special[0], "ht_previous_id", kind)
        return {"type": kind, "previousId": previous_id}
    category = optional_text(special[0], "ht_category")
    name = optional_text(special[1], "ht_name")
    return {"type": kind, "category": category, "name": name}


def fields_of(kind: str, special: Sequence[Any], *common: Any) -> dict[str, Any]:
    """Return what a call gave, in the order of `make`, as the fields of `build`."""
    names = (
        *("ht_user_id", "ht_anonymous_id", f"ht_{BODY[kind]}"),
        *("ht_context", "ht_timestamp", "ht_integrations", "ht_message_id"),
    )
    own = zip(OWN[kind], special, strict=True)
    fields = {"ht_type": kind, **dict(own), **dict(zip(names, common, strict=True))}
    return {name: value for name, value in fields.items() if value is not None}


def _over(bound: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """
    Merge a call's fields over the bound ones; `None` in a call means not given.

    Dicts are merged. The bound dict of the body lies below all of the call's extras.
    """
    kind = own.get("ht_type") or bound.get("ht_type") or "track"
    body = BODY.get(kind) if isinstance(kind, str) else None
    fields = {k: v for k, v in bound.items() if k not in _BODIES}
    if body is not None:
        fields.update(as_dict(bound.get(f"ht_{body}"), f"ht_{body}"))
    fields.update((k, v) for k, v in own.items() if v is not None or k not in FIELDS)
    for name in ("ht_context", "ht_integrations"):
        if name in bound and name in fields:
            fields[name] = {
                **as_dict(bound[name], name),
                **as_dict(own.get(name), name),
            }
    return fields


def _take_body(fields: dict[str, Any], kind: str) -> Any:
    """Remove and return the body's dict; remove the fields of other types."""
    own: Any = None
    body = BODY[kind]
    for name in _BODIES:
        value = fields.pop(name, None)
        if value is None:
            continue
        if name == f"ht_{body}":
            own = value
        elif as_dict(value, name):
            cure = f"; its dict is ht_{body}" if body else ", which takes neither"
            raise InvalidEvent(f"{name} does not go with {kind}{cure}")
    for name in _OTHER:
        fields.pop(name, None)
    return own


def _strays(fields: Mapping[str, Any]) -> str:
    """Return a hint about misspelt names; they would silently become properties."""
    names = [name for name in fields if isinstance(name, str)]  # `extra` takes any
    strays = sorted(n for n in names if n.startswith("ht_") and n not in FIELDS)
    if not strays:
        return ""
    meant = ", ".join(filter(None, map(near, strays)))
    hint = f"; did you mean {meant}?" if meant else ""
    return f"; no such field: {', '.join(strays)}{hint}"


def near(name: str) -> str:
    """Return the field that may be meant, or nothing."""
    from difflib import get_close_matches

    return "".join(get_close_matches(name, sorted(FIELDS), 1))
