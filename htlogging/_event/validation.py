"""
What is wrong with an event that the receiver accepts all the same.

A 200 does not prove that an event is valid: one without an id, for example, is lost later,
unseen. No text that is returned here contains a value of the event, except its type.
"""

from __future__ import annotations

import re
from datetime import datetime

from htlogging._settings import MAX_BODY_EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Type → the fields that it must have, besides an id.
REQUIRED = {
    "track": ("event",),
    "identify": (),
    "page": (),
    "screen": (),
    "group": ("groupId",),
    "alias": ("previousId", "userId"),
}

_IDS = ("userId", "anonymousId", "groupId", "previousId")
_MAX_MESSAGE_ID = 99  # characters
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)"
)


def problems(event: dict[str, Any], endpoint: str = "batch") -> list[str]:
    """
    Return what is wrong with an event, a short text for each fault.

    Args:
        event: Any JSON object.
        endpoint: `batch`, or the type of event that the path names.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in REQUIRED:
        return [f"type must be one of {', '.join(REQUIRED)}"]
    found = []
    if endpoint not in ("batch", kind):
        found.append(f"a {kind} event came to /v1/{endpoint}")
    found += _identity(event, kind)
    found += [
        f"{name} must be a string or null"
        for name in ("category", "name")
        if kind in ("page", "screen") and not isinstance(event.get(name, ""), _TEXT)
    ]
    found += [
        f"{name} must be an object"
        for name in ("properties", "traits", "context", "integrations")
        if not isinstance(event.get(name, {}), dict)
    ]
    if not _is_library(event.get("context")):
        found.append("context.library must have a name and a version")
    if not is_time(event.get("timestamp", event.get("originalTimestamp"))):
        found.append("timestamp must be ISO 8601 with an offset")
    return found


def request_problems(
    count: int, sent_at: object, content_type: str | None
) -> list[str]:
    """
    Return what is wrong with a request as a whole.

    Args:
        count: Events in it.
        sent_at: The body's `sentAt`.
        content_type: The header.
    """
    found = []
    if not count:
        found.append("the batch is empty")
    if count > MAX_BODY_EVENTS:
        lost = count - MAX_BODY_EVENTS
        found.append(f"{lost:,} events over {MAX_BODY_EVENTS:,} were lost")
    if not is_time(sent_at):
        found.append("sentAt must be ISO 8601 with an offset")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        found.append("Content-Type must be application/json")
    return found


def is_time(value: object) -> bool:
    """Return whether a value is the text of an ISO 8601 date and time with an offset."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return False
    try:
        # Without the fraction and the offset, of which Python 3.10 reads only a few forms.
        datetime.fromisoformat(found[1])
    except ValueError:
        return False
    return True


def _identity(event: dict[str, Any], kind: str) -> list[str]:
    message_id = event.get("messageId")
    found = []
    if not isinstance(message_id, str) or not message_id:
        found.append("messageId must be a non-empty string")
    elif len(message_id) > _MAX_MESSAGE_ID:
        found.append(f"messageId has more than {_MAX_MESSAGE_ID} characters")
    found += [
        f"{name} must be a non-empty string"
        for name in (*_IDS, "event")
        if event.get(name) is not None and not _is_text(event[name])
    ]
    found += [
        f"{kind} needs {name}" for name in REQUIRED[kind] if event.get(name) is None
    ]
    if kind != "alias" and not (event.get("userId") or event.get("anonymousId")):
        found.append(f"{kind} needs userId or anonymousId")
    return found


_TEXT = (str, type(None))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_library(context: object) -> bool:
    library = context.get("library") if isinstance(context, dict) else None
    return isinstance(library, dict) and all(
        _is_text(library.get(name)) for name in ("name", "version")
    )
