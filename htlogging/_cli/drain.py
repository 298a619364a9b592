"""Send what a source holds, batch by batch, on the thread that asks for it."""

from __future__ import annotations

import math
import os
import threading
from contextlib import closing

from htlogging._command_error import Failed
from htlogging._delivery.request import room
from htlogging._delivery.sender import Delivery
from htlogging._delivery.transport import HttpTransport
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging._stats import Counters
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Protocol

    from htlogging._delivery.sender import Claims
    from htlogging._queue.base import Batch
    from htlogging.exceptions import DeliveryError

    class Source(Claims, Protocol):
        """Where the events are: a queue that only this thread uses."""

        def claim(self, max_count: int, max_bytes: int) -> Batch | None:
            """Take the next events; `None`: there are no more, or none shall be sent."""


class Notes(Report):
    """
    What is told of an outage; what is refused the source tells by itself.

    Args:
        say: Called with each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def failing(self, why: str, *, closing: bool = False) -> None:  # noqa: ARG002
        """Tell of each try that failed: somebody is watching."""
        self._say(f"no success yet ({why}); trying again")

    def working(self) -> None:
        """Tell nothing: the progress does."""

    def lost(self, kind: str, count: int, why: str) -> None:
        """Tell nothing: the source was asked to bury them."""


class _Patience:
    """All the time that `max_retries` asks for: Ctrl+C ends a wait."""

    def left(self) -> float:
        return math.inf

    def pause(self, seconds: float) -> bool:
        threading.Event().wait(seconds)
        return True

    def is_last(self) -> bool:
        return False


def pump(
    settings: Settings,
    source: Source,
    note: Callable[[str], None],
    most: Callable[[int], int] = int,
) -> None:
    """
    Send until the source has no more.

    A batch is sent again `max_retries` times; what is given up the source buries.

    Args:
        settings: write_key, host, gzip, timeout, max_retries, proxies.
        source: Where batches are claimed and settled.
        note: Called with lines about failed tries.
        most: From the most events that a request may have, makes fewer.
    """
    delivery = Delivery(settings, source, Counters(), Notes(note))
    patience = _Patience()
    space = room(settings.write_key)
    with closing(HttpTransport(settings)) as transport:
        while batch := source.claim(most(delivery.limit()), space):
            delivery.deliver(batch, transport, patience)


def concerns_one(failure: DeliveryError) -> bool:
    """Tell whether it is this event that is refused: another might be taken."""
    return failure.status in (400, 413)


def is_refusal(failure: DeliveryError) -> bool:
    """Tell whether the server refused, and will again: no outage, no fault of ours."""
    status = failure.status
    return status is not None and status < 500 and status not in (408, 429)  # noqa: PLR2004


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where events go."""
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
    parser.add_argument(
        "--max-retries",
        type=int,
        metavar="N",
        help="how often to try again after an outage (default: 10)",
    )


def target(arguments: argparse.Namespace, **more: object) -> Settings:
    """
    Return the settings that these options make.

    Raises:
        Failed: They cannot work.
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
