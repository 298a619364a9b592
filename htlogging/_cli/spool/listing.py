"""What `spool list` prints: a line for people, or a dict for programs."""

from __future__ import annotations

import json

from htlogging._cli.terminal.console import iso, reason, row, terminal_width
from htlogging._cli.terminal.request_lines import as_text, who
from htlogging._queue.spool.erasure import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView
    from htlogging._queue.spool.rows import Letter

# Columns; a negative number aligns to the right.
_ID, _NUMBER, _TIME, _TYPE, _WHO, _NAME, _SIZE = 20, 6, 20, 8, 20, 24, -7

_HEADS = {
    "waiting": [
        ("ID", _ID),
        ("TIME (UTC)", _TIME),
        ("TYPE", _TYPE),
        ("WHO", _WHO),
        ("EVENT", _NAME),
        ("BYTES", _SIZE),
        ("STATE", 0),
    ],
    "dead": [
        ("ID", _NUMBER),
        ("TIME (UTC)", _TIME),
        ("TYPE", _TYPE),
        ("WHO", _WHO),
        ("EVENT", _NAME),
        ("BYTES", _SIZE),
        ("REFUSED (UTC)", _TIME),
        ("STATUS", 6),
        ("REASON", 0),
    ],
}


def _cells(found: dict[str, Any], body: bytes) -> list[tuple[str, int]]:
    event = json.loads(body)
    names = (event.get(name) for name in ("category", "event", "name", "groupId"))
    cells = [
        (found["id"], _NUMBER if found["kind"] == "dead" else _ID),
        (found["at"] or "-", _TIME),
        (as_text(event.get("type")), _TYPE),
        (who(event), _WHO),
        (" / ".join(as_text(name) for name in names if name is not None), _NAME),
        (f"{found['bytes']:,}", _SIZE),
    ]
    if found["kind"] != "dead":
        state = "of a living process" if found["kind"] == "waiting" else "orphaned"
        return [*cells, (state, 0)]
    status = "-" if found["status"] is None else str(found["status"])
    why = reason(found["status"], found["code"], found["message"])
    return [*cells, (found["failedAt"] or "-", _TIME), (status, 6), (why, 0)]


def head_of(found: dict[str, Any]) -> str:
    """Return the headline for events of this kind."""
    head = _HEADS["dead" if found["kind"] == "dead" else "waiting"]
    return row(head, terminal_width())


def line_of(found: dict[str, Any], body: bytes) -> str:
    """Return an event's line."""
    return row(_cells(found, body), terminal_width())


def as_str(text: object) -> str:
    """Return a text of the file, which is bytes there."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def as_int(value: object) -> int | None:
    """Return a number of the file; `None`: it is none, in a damaged row."""
    return value if isinstance(value, int) else None


def waiting(view: SpoolView) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield what there is about each waiting event, and the event."""
    owners = view.owners()
    living = view.living(owners)
    for number in owners:
        for found in view.events(number):
            if not found.is_sound():
                continue
            yield (
                {
                    "id": name_of(found.id),
                    "kind": "waiting" if number in living else "orphaned",
                    "at": iso(found.at),
                    "bytes": len(found.body),
                },
                found.body,
            )


def dead(view: SpoolView) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield what there is about each dead letter, and the event."""
    for found in view.letters():
        if found.is_sound():
            yield about(found), found.body


def about(found: Letter) -> dict[str, Any]:
    """Return what there is about a dead letter."""
    return {
        "id": str(found.id),
        "kind": "dead",
        "at": iso(found.at),
        "bytes": len(found.body),
        "status": as_int(found.status),
        "code": as_str(found.code),
        "message": as_str(found.message),
        "tries": as_int(found.tries),
        "failedAt": iso(found.failed_at),
    }
