"""`python -m htlogging relay`: send what is in a Redis stream, and look after it."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from contextlib import closing, contextmanager

from htlogging._cli import forgetting
from htlogging._cli.drain import send_all
from htlogging._cli.errors import Failed, Misused
from htlogging._cli.options import add_target, seconds, target
from htlogging._cli.terminal.console import add_example, many, out, say
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging._settings.redis_location import Location

ACTIONS = ("run", "status", "replay", "drop", "forget")
_URL = "redis://localhost:6379/0"
_TIMEOUT = 15.0  # seconds, for each answer of Redis
_DAY = 86_400  # seconds
_STILL = "Events that a relay is sending now may still be sent."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands; `run` may be left out."""
    commands = parser.add_subparsers(metavar="[run] | ACTION", required=True)

    def add(name: str, action: Any, summary: str, more: str) -> Any:
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument(
            "url", metavar="URL", help=f"such as {_URL}?stream=htevents"
        )
        command.set_defaults(action=action)
        add_example(command, f"python -m htlogging relay {name} {_URL}{more}")
        return command

    add_example(
        parser,
        f"python -m htlogging relay {_URL} --thread 2",
        f"python -m htlogging relay status {_URL}",
    )
    _add_run(add("run", _run, "Send what is in the stream until SIGTERM.", ""))
    command = add("status", _status, "Show what is in the stream, and its relays.", "")
    command.add_argument("--json", action="store_true", help="one JSON object")
    again = "Send dead letters again, under the same message ids."
    _add_replay(add("replay", _replay, again, " --only-status 401"))
    _add_drop(add("drop", _drop, "Remove dead letters for good.", " --yes"))
    forgetting.add_options(
        add("forget", _forget, "Remove a user's events.", " --user user123"),
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    add_target(command)
    command.add_argument(
        "--thread", type=int, metavar="N", help="parallel senders (default: 1)"
    )
    command.add_argument(
        "--take-over",
        type=seconds(_DAY),
        default=30.0,
        metavar="SECONDS",
        help="another relay that is silent for this long counts as dead (default: 30)",
    )
    command.add_argument(
        "--shutdown-timeout",
        type=seconds(_DAY),
        metavar="SECONDS",
        help="how long it may finish after SIGTERM (default: 10)",
    )
    command.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        help="answer /health and /metrics there",
    )


def _add_replay(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only-status",
        action="append",
        type=int,
        metavar="STATUS",
        help="only those refused with this status; may be given more than once",
    )
    add_target(command)


def _add_drop(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--id",
        action="append",
        type=_id,
        metavar="ID",
        help="a dead letter's id in the stream; may be given more than once",
    )
    command.add_argument("--yes", action="store_true", help="really remove them")


def _id(text: str) -> str:
    milliseconds, dash, number = text.partition("-")
    if not (milliseconds.isdecimal() and dash and number.isdecimal()):
        raise argparse.ArgumentTypeError("an id is such as 1718000000000-0")
    return text


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("an address is HOST:PORT or :PORT")
    return host.strip("[]"), int(port)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; return its exit status."""
    return int(arguments.action(arguments))


def _location(arguments: argparse.Namespace) -> Location:
    from htlogging._settings.checks import is_redis
    from htlogging._settings.redis_location import Location

    if not is_redis(arguments.url):
        raise Misused(f"the URL must begin with redis:// or rediss://, such as {_URL}")
    try:
        return Location(arguments.url, "the URL")
    except InvalidSetting as exc:
        raise Failed(str(exc)) from None


@contextmanager
def _connected(arguments: argparse.Namespace) -> Iterator[tuple[Any, Location]]:
    """Yield a client and the location; what Redis refuses is one line."""
    location = _location(arguments)
    import redis

    with closing(location.connect(_TIMEOUT)) as client:
        try:
            yield client, location
        except redis.RedisError as exc:
            from htlogging._delivery.redis_transport import why

            raise Failed(why(exc, location)) from None


def _run(arguments: argparse.Namespace) -> int:
    from htlogging._cli.relay.health import Health
    from htlogging._cli.relay.relay import Relay

    location = _location(arguments)
    settings = target(
        arguments,
        thread=arguments.thread,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    _log_to_stderr()
    relay = Relay(settings, location, take_over=arguments.take_over)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    health = None
    if arguments.listen is not None:
        try:
            health = Health(relay, location.connect(_TIMEOUT), arguments.listen)
        except OSError as exc:
            raise Failed(f"cannot listen: {exc.strerror or exc}") from None
        say(f"health and metrics on port {health.port}")
    say(f"relaying from {location} to {settings.host}")
    relay.run()
    if health is not None:
        health.close()
    say(f"{many(relay.delivered, 'event')} delivered, {relay.buried:,} dead letters")
    return 0


def _log_to_stderr() -> None:
    """Have the package's own lines printed: a relay has no application to do it."""
    log = logging.getLogger("htlogging")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _status(arguments: argparse.Namespace) -> int:
    from htlogging._cli.relay.status import status_lines, status_of

    with _connected(arguments) as (client, location):
        found = status_of(client, location)
    for line in [json.dumps(found)] if arguments.json else status_lines(found):
        out(line)
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from htlogging._cli.relay.dead_letters import DeadLetters

    settings = target(arguments)
    with _connected(arguments) as (client, location):
        letters = DeadLetters(client, location, arguments.only_status or ())
        total = letters.count()
        send_all(settings, letters, say)
    if letters.stopped is not None:
        say(f"stopped: {letters.stopped}")
    out(f"{letters.delivered:,} of {many(total, 'event')} delivered")
    return 0 if letters.delivered == total else 1


def _drop(arguments: argparse.Namespace) -> int:
    from htlogging._cli.relay.dead_letters import drop

    with _connected(arguments) as (client, location):
        count = len(arguments.id) if arguments.id else client.xlen(location.dead)
        if not arguments.yes:
            letters = many(count, "dead letter")
            raise Misused(f"this drops {letters} for good; add --yes")
        out(f"{many(drop(client, location, arguments.id), 'dead letter')} dropped")
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from htlogging._cli.relay.dead_letters import forget

    user = forgetting.user_of(arguments)
    dry_run = arguments.dry_run
    with _connected(arguments) as (client, location):
        waiting, dead = forget(client, location, user, dry_run=dry_run)
    forgetting.report(waiting, dead, _STILL, dry_run=dry_run)
    return 0
