"""Texts into which a wrapper of logging has put the fields of an event."""

from __future__ import annotations

import re

from htlogging._event.builder import FIELDS
from htlogging.exceptions import InvalidEvent

# A field as structlog's renderers write it: `ht_user_id='u'`, `"ht_user_id": "u"`, and with
# colours around the name.
_RENDERED = r"""(ht_[a-z_]+)(?:\x1b\[[\d;]*m)?["']?\s?[=:]"""

# The most characters of a message that are looked at.
_LOOKED_AT = 2_000


def seems_rendered(text: object) -> str | None:
    """Return what is wrong with a message, if it has a field in its text."""
    if type(text) is not str or "ht_" not in text[:_LOOKED_AT]:
        return None
    # Compiled when it is needed: it would take 0.5 % of the import.
    found = FIELDS.intersection(re.findall(_RENDERED, text[:_LOOKED_AT]))
    if not found:
        return None
    return (
        f"{min(found)} is part of its text; structlog must end with "
        "render_to_log_kwargs, other callers give the field in extra="
    )


def refuse(text: object) -> None:
    """Raise `InvalidEvent` for a message that has a field in its text: it is no name."""
    wrong = seems_rendered(text)
    if wrong is not None:
        raise InvalidEvent(f"the message of a record is no event's name: {wrong}")
