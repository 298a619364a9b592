"""Misspelt `ht_` names beside good ones: they join the properties, seldom meant."""

from __future__ import annotations

from htlogging._event.builder import FIELDS, near
from htlogging._lines import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from htlogging._report import Report

# Names that begin otherwise than a field's: looked at once, not at each event. Added to by
# any thread, up to a bound; a set's own operations are atomic.
plain: set[object] = set()

_MAX_PLAIN = 10_000


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
    """Add names that do not begin as a field's does to `plain`."""
    if len(plain) < _MAX_PLAIN:
        # Not other objects, which would live on here.
        plain.update(n for n in names if type(n) is str and not n.startswith("ht_"))


def report_those(
    body: Iterable[object], record: logging.LogRecord, report: Report
) -> None:
    """Report the names in an event's properties or traits that a record misspells."""
    for name in among(body):
        if name in record.__dict__:
            report.unknown_field(name, near(name), where(record))
