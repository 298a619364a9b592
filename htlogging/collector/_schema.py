"""
The names and types of the events so far, and what is doubtful in the next event.

Hightouch makes a table for each event name and a column for each property. It refuses none
of these events; the harm shows later, in the warehouse.
"""

from __future__ import annotations

import re

from htlogging._event.builder import BODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The most names and properties that are remembered, so that memory is bounded.
MAX_NAMES = 2_000
MAX_PROPERTIES = 20_000

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE)
_VALUE = re.compile(r"\d{3,}|[#№=]\s*\w|%[sdrif]\b|\{\w*\}|\S+@\S+\.\w|0x[0-9a-f]{4,}")
# "Order 5 completed": a number between words, or at the end.
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
_KINDS = {bool: "boolean", int: "number", float: "number", str: "text"}


class Schema:
    """The names and types seen so far; not for several threads at once."""

    def __init__(self) -> None:
        self._tables: dict[str, str] = {}  # table → the first name that makes it
        self._types: dict[tuple[str, str], str] = {}

    def doubts(self, event: dict[str, Any]) -> list[str]:
        """Say what is doubtful about an event after all those before it."""
        kind = event.get("type")
        name = event.get("event") if kind == "track" else kind
        if not isinstance(name, str) or not name:
            return []
        found = self._about_name(name) if kind == "track" else []
        fields = event.get(BODY.get(str(kind)) or "properties")
        if isinstance(fields, dict):
            found += self._about_types(name, fields)
        return found

    def _about_name(self, name: str) -> list[str]:
        found = []
        if _looks_made(name):
            found.append(
                "the event's name looks like a message with values in it; each name "
                "becomes a table"
            )
        table = table_of(name)
        if len(self._tables) < MAX_NAMES:
            first = self._tables.setdefault(table, name)
        else:
            first = self._tables.get(table, name)
        if first != name:
            found.append(f"{name!r} and {first!r} are two names of one table, {table}")
        return found

    def _about_types(self, name: str, fields: dict[str, Any]) -> list[str]:
        found = []
        for key, value in fields.items():
            if value is None:
                continue
            kind = _KINDS.get(
                type(value), "object" if isinstance(value, dict) else "array"
            )
            before = self._types.get((name, key))
            if before is None:
                if len(self._types) < MAX_PROPERTIES:
                    self._types[name, key] = kind
            elif before != kind:
                found.append(
                    f"{key[:100]!r} is {_a(kind)} here and was {_a(before)} before; "
                    f"a column has one type"
                )
        return found


def table_of(name: str) -> str:
    """Return the table that an event's name becomes, as Hightouch snake-cases it."""
    return "_".join(word.lower() for word in _WORDS.findall(name)) or name


def _looks_made(name: str) -> bool:
    return any(look.search(name) for look in (_UUID, _VALUE, _NUMBER))


def _a(kind: str) -> str:
    if kind == "text":
        return kind
    return f"{'an' if kind[0] in 'ao' else 'a'} {kind}"
