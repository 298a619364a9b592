"""What `spool status` prints: how many events wait, how many are dead, and why."""

from __future__ import annotations

from htlogging._cli.terminal.console import iso, many, reason, row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView

_SUMS = "SELECT count(*), coalesce(sum(length(body)), 0), min(at), max(at) FROM"


def status_of(view: SpoolView) -> dict[str, Any]:
    """Return the numbers, all at one moment."""
    view.connection.execute("BEGIN")
    owners = view.owners()
    living = view.living(owners)
    query = f"{_SUMS} events WHERE owner = ?"
    each = {owner: view.read(query, owner)[0] for owner in owners}
    dead = _sums(view.read(f"{_SUMS} dead"))
    # SQLite takes the message from the row with the latest time ("bare columns").
    reasons = view.read(
        "SELECT status, code, count(*), max(failed_at), message FROM dead"
        " GROUP BY status, code ORDER BY 3 DESC"
    )
    view.connection.execute("COMMIT")
    return {
        "schema": view.version,
        "files": {f"PATH{suffix}": size for suffix, size in view.sizes().items()},
        "waiting": {
            **_sums(each.values()),
            "living": _sums(each[o] for o in owners if o in living),
            "orphaned": _sums(each[o] for o in owners if o not in living),
        },
        "dead": {
            **dead,
            "reasons": [
                {
                    "status": status,
                    "code": code,
                    "events": count,
                    "latest": iso(latest),
                    "message": message,
                }
                for status, code, count, latest, message in reasons
            ],
        },
    }


def _sums(rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    some = [found for found in rows if found[0]]
    return {
        "events": sum(found[0] for found in some),
        "bytes": sum(found[1] for found in some),
        "oldest": iso(min(found[2] for found in some)) if some else None,
        "newest": iso(max(found[3] for found in some)) if some else None,
    }


def status_lines(path: str, found: dict[str, Any]) -> Iterator[str]:
    """Yield the numbers as lines."""
    files = ", ".join(
        f"{name.removeprefix('PATH') or 'file'} {size:,}"
        for name, size in found["files"].items()
    )
    yield f"{path}: schema version {found['schema']}; bytes: {files}"
    waiting, dead = found["waiting"], found["dead"]
    yield _line("waiting", waiting)
    yield _line("  of living processes", waiting["living"])
    yield _line("  orphaned", waiting["orphaned"])
    yield _line("dead letters", dead)
    for why in dead["reasons"]:
        answer = "no answer" if why["status"] is None else f"HTTP {why['status']}"
        told = reason(why["status"], why["code"], why["message"])
        latest = f"latest {why['latest']}  {told}"
        yield row([(f"  {answer}", 22), (f"{why['events']:,}", -9), (latest, 0)], None)


def _line(title: str, sums: dict[str, Any]) -> str:
    cells = [(title, 22), (f"{sums['events']:,}", -9)]
    if sums["events"]:
        size = many(sums["bytes"], "byte")
        cells.append((f"{size}, {sums['oldest']} to {sums['newest']}", 0))
    return row(cells, None)
