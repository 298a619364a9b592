"""`python -m htlogging track USER EVENT`: one event, from a shell or cron."""

from __future__ import annotations

import argparse

from htlogging._cli.errors import Failed, Misused
from htlogging._cli.options import add_address, seconds
from htlogging._cli.terminal import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds that the event may take.
_TIMEOUT = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("event", metavar="EVENT", help="the event's name")
    parser.add_argument(
        "-p",
        "--property",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="add a property; a VALUE that is valid JSON (12, true, [1]) is sent as JSON, "
        "any other as text",
    )
    parser.add_argument(
        "--anonymous", action="store_true", help="USER is an anonymous id"
    )
    parser.add_argument(
        "--message-id",
        metavar="ID",
        help="an id of the event, so that sending it again does no harm",
    )
    parser.add_argument(
        "--timeout",
        type=seconds(3600),
        default=_TIMEOUT,
        metavar="SECONDS",
        help="how long to try (default: %(default)g)",
    )
    add_address(parser)
    console.add_example(
        parser,
        'python -m htlogging track user123 "Order completed" -p revenue=29.95',
        'python -m htlogging track backup "Backup done" -p host="$(hostname)" -p ok=true',
    )


def run(arguments: argparse.Namespace) -> int:
    """Send the event; return 0 when the server has taken it."""
    from htlogging.exceptions import DeliveryError, InvalidEvent, InvalidSetting
    from htlogging.htevents import Client

    properties = dict(map(_pair, arguments.property))
    user = "anonymous_id" if arguments.anonymous else "user_id"
    try:
        client = Client(
            arguments.write_key,
            host=arguments.host,
            shutdown_timeout=arguments.timeout,
            max_retries=2**31,
        )
        client.track(
            event=arguments.event,
            properties=properties,
            message_id=arguments.message_id,
            **{user: arguments.user},
        )
    except (InvalidEvent, InvalidSetting) as exc:
        raise Misused(str(exc)) from None
    if not client.stats.accepted:
        console.say(
            "not sent: HTEVENTS_SEND or a test that is running holds events back"
        )
        return 0
    try:
        done = client.flush(arguments.timeout, check=True)
    except DeliveryError as exc:
        raise Failed(str(exc)) from None
    handler = client.logger.handlers[0]
    if not done:
        # If the event is lost now, the log says so.
        handler.close()
        raise Failed(f"the event was not delivered within {arguments.timeout:g} s")
    return 0


def _pair(text: str) -> tuple[str, Any]:
    import json

    key, equals, said = text.partition("=")
    if not key or not equals:
        raise Misused(f"a property is KEY=VALUE, not {text!r}")
    try:
        return key, json.loads(said)
    except (ValueError, RecursionError):
        return key, said
