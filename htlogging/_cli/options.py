"""Options that several commands have, and what their values must be."""

from __future__ import annotations

import argparse
import os

from htlogging._cli.errors import Failed
from htlogging._settings import Settings
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(most: int) -> Callable[[str], float]:
    """
    Return the type of an option whose value is a number of seconds.

    Args:
        most: The largest; 0 is too small.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= most:  # False for NaN, too
            raise argparse.ArgumentTypeError(
                f"it must be a number of seconds above 0, and {most} at most"
            )
        return value

    return parse


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints more of each event."""
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print each event's context and anonymous id, too",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how often events are sent."""
    add_address(parser)
    parser.add_argument(
        "--max-retries",
        type=int,
        metavar="N",
        help="how often to try again after an outage (default: 10)",
    )


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where events are sent."""
    parser.add_argument(
        "--write-key",
        metavar="KEY",
        help="the write key; HTEVENTS_WRITE_KEY (the default) hides it from other users",
    )
    parser.add_argument(
        "--host",
        metavar="URL",
        help="where to send (default: HTEVENTS_HOST, else Hightouch)",
    )


def target(arguments: argparse.Namespace, **more: object) -> Settings:
    """
    Return the settings that these options make.

    Raises:
        Failed: The settings are invalid.
    """
    key = arguments.write_key or os.environ.get("HTEVENTS_WRITE_KEY")
    if not key and more.get("send") is not False:
        raise Failed("no write key: set HTEVENTS_WRITE_KEY, or give --write-key")
    given = {
        "write_key": arguments.write_key,
        "host": arguments.host,
        "max_retries": arguments.max_retries,
        **more,
    }
    try:
        settings = Settings(given)
    except InvalidSetting as exc:
        raise Failed(str(exc)) from None
    if not settings.send and more.get("send") is not False:
        raise Failed("HTEVENTS_SEND is 0: nothing is sent; unset it to send")
    return settings
