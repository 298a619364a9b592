"""
Misspelt fields, and fields inside a text.

Misspelt `ht_` names beside good ones join the properties, which is seldom meant. A wrapper
of logging may have written fields into the message.
"""

from __future__ import annotations

import re

from htlogging._event.builder import FIELDS, near
from htlogging._process.lines import where
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from htlogging._report import Report

# Names that do not begin with `ht_`: looked at once, not at each event. Added to by
# any thread, up to a bound; a set's own operations are atomic.
plain: set[object] = set()

_MAX_PLAIN = 10_000  # names

# A field as structlog's renderers write it: `ht_user_id='u'`, `"ht_user_id": "u"`, and with
# colours around the name. Compiled when it is used: it takes 0.5 % of the import.
_RENDERED = r"""(ht_[a-z_]+)(?:\x1b\[[\d;]*m)?["']?\s?[=:]"""

# The most characters of a message that are looked at.
_LOOKED_AT = 2_000


def among(names: Iterable[object]) -> list[str]:
    """Return those that look like fields and are none; note the others in `plain`."""
    found = [
        name
        for name in names
        if isinstance(name, str) and name.startswith("ht_") and name not in FIELDS
    ]
    if not found:
        note(names)
    return found


def note(names: Iterable[object]) -> None:
    """Add the names that do not begin with `ht_` to `plain`."""
    if len(plain) < _MAX_PLAIN:
        # No other objects: they would be kept alive here.
        plain.update(n for n in names if type(n) is str and not n.startswith("ht_"))


def report_those(
    body: Iterable[object], record: logging.LogRecord, report: Report
) -> None:
    """Report the names in an event's properties or traits that a record misspells."""
    for name in among(body):
        if name in record.__dict__:
            report.unknown_field(name, near(name), where(record))


def seems_rendered(text: object) -> str | None:
    """Return what is wrong with a message, if it has a field in its text."""
    if type(text) is not str or "ht_" not in text[:_LOOKED_AT]:
        return None
    found = FIELDS.intersection(re.findall(_RENDERED, text[:_LOOKED_AT]))
    if not found:
        return None
    return (
        f"{min(found)} is part of its text; structlog must end with "
        "render_to_log_kwargs, other callers give the field in extra="
    )


def refuse_rendered(text: object) -> None:
    """Raise `InvalidEvent` for a message that has a field in its text: it is no name."""
    wrong = seems_rendered(text)
    if wrong is not None:
        raise InvalidEvent(f"the message of a record is no event's name: {wrong}")
