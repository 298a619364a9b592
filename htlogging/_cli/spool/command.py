"""`python -m htlogging spool`: show, send again and remove what is in a spool."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import closing, contextmanager
from itertools import chain, islice

from htlogging._cli import forgetting
from htlogging._cli.errors import Failed, Misused
from htlogging._cli.options import add_target, target
from htlogging._cli.terminal.console import add_example, iso, many, out, reason, say
from htlogging._cli.terminal.request_lines import ascii_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging._queue.spool.admin import SpoolView

_AN_ID = "an event id; may be given more than once"
_STILL = (
    "Events that a running process is sending, or holds in memory, may still be sent."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def add(
        name: str, action: Any, summary: str, example: str = ""
    ) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=summary
        )
        command.add_argument("path", metavar="PATH", help="the spool's file")
        command.set_defaults(action=action)
        command_line = f"python -m htlogging spool {name} events.spool{example}"
        add_example(command, command_line)
        return command

    add_example(
        parser,
        "python -m htlogging spool status events.spool",
        "python -m htlogging spool replay --help",
    )
    command = add("status", _status, "Show how many events wait and were refused.")
    _add_json(command, "one JSON object")
    _add_list(add("list", _list, "List the waiting events, then the dead letters."))
    command = add("show", _show, "Show one event in full.", " 12")
    command.add_argument("id", metavar="ID", help="an event's id, as `list` shows it")
    _add_json(command, "only the event's JSON, on one line")
    again = "Send dead letters again, under the same message ids."
    _add_replay(add("replay", _replay, again, " --only-status 401"))
    _add_drop(
        add("drop", _drop, "Remove events without sending them.", " --dead --yes")
    )
    every = "Remove every trace of a user's events from the file."
    forgetting.add_options(add("forget", _forget, every, " --user user123"))


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen subcommand."""
    return int(arguments.action(arguments))


def _add_json(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--json", action="store_true", help=f"print {what}")


def _add_which(command: argparse.ArgumentParser) -> Any:
    which = command.add_mutually_exclusive_group()
    which.add_argument("--dead", action="store_true", help="only dead letters")
    which.add_argument("--waiting", action="store_true", help="only waiting events")
    return which


def _add_list(command: argparse.ArgumentParser) -> None:
    _add_json(command, "one JSON object per line, with the event in it")
    _add_which(command)
    command.add_argument(
        "--limit", type=_count, metavar="N", help="list at most N events (default: all)"
    )


def _add_drop(command: argparse.ArgumentParser) -> None:
    which = _add_which(command)
    which.add_argument("--id", action="append", metavar="ID", help=_AN_ID)
    which.add_argument(
        "--all", action="store_true", help="waiting events and dead letters"
    )
    command.add_argument("--yes", action="store_true", help="really remove them")


def _add_replay(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only-status",
        action="append",
        type=_status_number,
        metavar="STATUS",
        help="only dead letters with this HTTP status, or `none` for those without an "
        "answer; may be given more than once",
    )
    command.add_argument(
        "--waiting",
        action="store_true",
        help="first send events whose process died before it sent them",
    )
    add_target(command)


def _count(text: str) -> int:
    if text.isdecimal():
        return min(int(text), 2**62)
    raise argparse.ArgumentTypeError("a limit is a whole number")


def _status_number(text: str) -> int | None:
    if text == "none":
        return None
    if text.isdecimal() and len(text) <= 3:  # noqa: PLR2004
        return int(text)
    raise argparse.ArgumentTypeError("a status is a number such as 401, or `none`")


@contextmanager
def _opened(arguments: argparse.Namespace, *, change: bool) -> Iterator[SpoolView]:
    # Late, because SQLite is slow to import.
    from htlogging._queue.spool.admin import SpoolError, SpoolView

    try:
        view = SpoolView(arguments.path, change=change)
        with closing(view), view.translated():
            yield view
    except SpoolError as exc:
        raise Failed(str(exc)) from exc


def _status(arguments: argparse.Namespace) -> int:
    from htlogging._cli.spool.status import status_lines, status_of

    with _opened(arguments, change=False) as view:
        found = status_of(view)
    if arguments.json:
        out(json.dumps(found))
    else:
        for line in status_lines(readable(arguments.path), found):
            out(line)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from htlogging._cli.spool.listing import dead, head_of, line_of, waiting

    with _opened(arguments, change=False) as view:
        sources = []
        if not arguments.dead:
            sources.append(waiting(view))
        if not arguments.waiting:
            sources.append(dead(view))
        rows = islice(chain.from_iterable(sources), arguments.limit)
        if arguments.json:
            for found, body in rows:
                out(f'{json.dumps(found)[:-1]}, "event": {_as_sent(body)}}}')
            return 0
        kind = None
        for found, body in rows:
            if (found["kind"] == "dead") is not kind:
                kind = found["kind"] == "dead"
                out(head_of(found))
            out(line_of(found, body))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from htlogging._cli.spool.listing import about
    from htlogging._queue.spool import statements
    from htlogging._queue.spool.erasure import row_of

    with _opened(arguments, change=False) as view:
        table, key = row_of(arguments.id)
        waiting = view.read(statements.row, key) if table == "events" else None
        letter = view.read(statements.letter, key) if table == "dead" else None
    found = waiting or letter
    if found is None:
        raise Failed(f"{readable(arguments.path)}: there is no event {arguments.id}")
    if not found.is_sound():
        raise Failed(f"{readable(arguments.path)}: event {arguments.id} is damaged")
    if arguments.json:
        out(_as_sent(found.body))
        return 0
    out(f"accepted   {iso(found.at) or '-'}")
    if letter is not None:
        why = about(letter)
        status = why["status"]
        answer = "no answer" if status is None else f"HTTP {status}"
        out(f"refused    {why['failedAt'] or '-'}, tries: {why['tries'] or 0:,}")
        out(f"reason     {answer}, {reason(status, why['code'], why['message'])}")
    out(f"size       {many(len(found.body), 'byte')}")
    event = json.loads(found.body)
    for line in json.dumps(event, indent=2, ensure_ascii=False).split("\n"):
        out(line)
    return 0


def readable(path: str) -> str:
    """Return a path as text that can be printed, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _as_sent(body: bytes) -> str:
    return ascii_json(body.decode())


def _replay(arguments: argparse.Namespace) -> int:
    from htlogging._cli.spool.replay import replay

    settings = target(arguments)
    with _opened(arguments, change=True) as view:
        found = replay(
            view,
            settings,
            statuses=arguments.only_status or (),
            waiting=arguments.waiting,
        )
    if found.stopped is not None:
        say(f"stopped: {found.stopped}")
    line = f"{found.delivered:,} of {many(found.total, 'event')} delivered"
    if found.refused:
        line += f"; {found.refused:,} refused (`spool list --dead` says why)"
    left = found.total - found.delivered - found.refused
    if left:
        line += f"; {left:,} left as they were"
    out(line)
    return 0 if found.delivered == found.total else 1


def _drop(arguments: argparse.Namespace) -> int:
    from htlogging._queue.spool import statements
    from htlogging._queue.spool.erasure import drop_dead, drop_ids, drop_waiting

    waiting = arguments.waiting or arguments.all
    dead = arguments.dead or arguments.all
    ids = arguments.id or []
    if not (waiting or dead or ids):
        raise Misused("say what to drop: --dead, --waiting, --id ID or --all")
    with _opened(arguments, change=True) as view:
        if not arguments.yes:
            count = len(ids)
            if waiting:
                count += view.read(statements.count, "events")
            if dead:
                count += view.read(statements.count, "dead")
            raise Misused(f"this drops {many(count, 'event')} for good; add --yes")
        count = drop_ids(view, ids) if ids else 0
        count += drop_waiting(view) if waiting else 0
        count += drop_dead(view) if dead else 0
    out(f"{many(count, 'event')} dropped")
    if waiting or any("." in text for text in ids):
        out(_STILL)
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from htlogging._queue.spool.erasure import forget

    user = forgetting.user_of(arguments)
    dry_run = arguments.dry_run
    with _opened(arguments, change=not dry_run) as view:
        waiting, dead = forget(view, user, dry_run=dry_run)
    forgetting.report(waiting, dead, _STILL, dry_run=dry_run)
    return 0
