"""What `spool status` prints: how many events wait, how many are dead, and why."""

from __future__ import annotations

from htlogging._cli.spool.listing import as_int, as_str
from htlogging._cli.terminal.console import iso, many, reason, row
from htlogging._queue.spool import statements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView
    from htlogging._queue.spool.rows import Sum


def status_of(view: SpoolView) -> dict[str, Any]:
    """Return the numbers, all of one moment."""
    view.connection.execute("BEGIN")
    owners = view.owners()
    living = view.living(owners)
    each = {owner: view.read(statements.sum_of_owner, owner) for owner in owners}
    dead = _sums([view.read(statements.sum_of_dead)])
    reasons = view.read(statements.reasons)
    damaged = view.read(statements.count, "damaged")
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
                    "status": as_int(why.status),
                    "code": as_str(why.code),
                    "events": why.events,
                    "latest": iso(why.latest),
                    "message": as_str(why.message),
                }
                for why in reasons
            ],
        },
        "damaged": {"events": damaged, "files": view.kept_aside()},
    }


def _sums(sums: Iterable[Sum]) -> dict[str, Any]:
    some = [found for found in sums if found.events]
    oldest = [found.oldest for found in some if isinstance(found.oldest, float)]
    newest = [found.newest for found in some if isinstance(found.newest, float)]
    return {
        "events": sum(found.events for found in some),
        "bytes": sum(found.size for found in some),
        "oldest": iso(min(oldest)) if oldest else None,
        "newest": iso(max(newest)) if newest else None,
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
        latest = f"latest {why['latest'] or '-'}  {told}"
        yield row([(f"  {answer}", 22), (f"{why['events']:,}", -9), (latest, 0)], None)


def _line(title: str, sums: dict[str, Any]) -> str:
    cells = [(title, 22), (f"{sums['events']:,}", -9)]
    if sums["events"]:
        size = many(sums["bytes"], "byte")
        cells.append((f"{size}, {sums['oldest'] or '-'} to {sums['newest'] or '-'}", 0))
    return row(cells, None)
