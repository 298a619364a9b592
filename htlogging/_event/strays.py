"""Misspelt `ht_` names beside good ones: they join the properties, seldom meant."""

from __future__ import annotations

from htlogging._event.builder import FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
    if len(plain) < _MAX_PLAIN:
        plain.update(set(names).difference(found))
    return found


def near(name: str) -> str:
    """Return the field that may be meant, or nothing."""
    from difflib import get_close_matches

    return "".join(get_close_matches(name, sorted(FIELDS), 1))
