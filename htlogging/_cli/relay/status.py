"""What is in a stream, and which relays read it."""

from __future__ import annotations

import time

from htlogging._cli.terminal.console import many, row
from htlogging._queue.redis.relay_queue import GROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._settings.redis_location import Location


def status_of(client: Any, location: Location) -> dict[str, Any]:
    """Return the figures of a stream, as JSON takes them."""
    stream = location.stream
    entries = client.xlen(stream)
    pending, consumers = 0, []
    if client.exists(stream):
        groups = [_text_keys(group) for group in client.xinfo_groups(stream)]
        mine = [group for group in groups if _text(group["name"]) == GROUP]
        pending = mine[0]["pending"] if mine else 0
        if mine:
            consumers = [
                {
                    "name": _text(consumer["name"]),
                    "pending": consumer["pending"],
                    "idle_seconds": consumer["idle"] / 1000,
                }
                for consumer in map(_text_keys, client.xinfo_consumers(stream, GROUP))
            ]
    first = client.xrange(stream, count=1)
    oldest = None
    if first:
        written = int(_text(first[0][0]).partition("-")[0]) / 1000
        oldest = max(round(time.time() - written, 3), 0.0)
    return {
        "stream": stream,
        "entries": entries,
        "pending": pending,
        "lag": max(entries - pending, 0),
        "oldest_seconds": oldest,
        "bytes": client.memory_usage(stream) or 0,
        "max_bytes": location.max_bytes,
        "dead": client.xlen(location.dead),
        "relays": consumers,
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """Return the same as lines for a person."""
    entries = "1 entry" if found["entries"] == 1 else f"{found['entries']:,} entries"
    lines = [f"{found['stream']}: {entries} in {found['bytes']:,} bytes of Redis"]
    if found["oldest_seconds"] is not None:
        lines.append(f"the oldest is {found['oldest_seconds']:,.1f} s old")
    lines.append(f"{found['pending']:,} claimed, {found['lag']:,} not claimed yet")
    lines.append(f"{many(found['dead'], 'dead letter')}")
    if found["relays"]:
        lines.append(row([("relay", 44), ("claimed", -9), ("last seen", -14)], None))
    lines += [
        row(
            [
                (relay["name"], 44),
                (f"{relay['pending']:,}", -9),
                (f"{relay['idle_seconds']:,.1f} s ago", -14),
            ],
            None,
        )
        for relay in found["relays"]
    ]
    return lines


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _text_keys(found: dict[Any, Any]) -> dict[str, Any]:
    return {_text(key): value for key, value in found.items()}
