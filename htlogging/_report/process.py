"""Lines that a process writes once, or once for a host, whichever handler they are of."""

from __future__ import annotations

import logging
import os

from htlogging._report.lines import events, say

# The process whose first delivery was reported.
_delivered = 0


def first_delivery(count: int, host: str) -> None:
    """Report the first delivery of this process, at INFO; do nothing for later ones."""
    global _delivered  # noqa: PLW0603
    pid = os.getpid()
    if _delivered != pid:
        _delivered = pid
        line = "%d %s delivered to %s: the first of this process"
        say(line, count, events(count), host, level=logging.INFO)


def no_effect(what: str) -> None:
    """Report settings that have no effect."""
    say("%s", what)


def unhandled(where: str, loggers: list[str], hosts: str) -> None:
    """
    Report an event that no handler sees.

    Args:
        where: Its logger, file and line.
        loggers: Those that have a handler.
        hosts: Where events go.
    """
    cure = "give that logger an HtEventsHandler"
    if loggers:
        names = " or ".join(repr(name) for name in loggers[:3])
        cure = f"log on {names}, which has one, or {cure}"
    line = "wrong logger? no HtEventsHandler sees the event of %s: it is lost; %s"
    say(line + " (events go to %s)", where, cure, hosts)


# Hosts that a line was written about; two threads may write it twice. A forked child
# inherits it, so that there is one line for all children.
_unencrypted: set[str] = set()
_held_back: set[str] = set()


def unencrypted(host: str) -> None:
    """Report, once, that events for this host are sent unencrypted."""
    if host not in _unencrypted:
        _unencrypted.add(host)
        say("the write key and all events are sent to %s unencrypted; use https", host)


def held_back(host: str, variable: str) -> None:
    """Report, once for a host, that a test runner's process keeps events from it."""
    if host not in _held_back:
        _held_back.add(host)
        line = "events for %s are held back: a test started this process (%s is set)"
        say(line, host, variable)


def doubtful(host: str) -> None:
    """Report a 2xx answer that does not look like Hightouch's."""
    say(
        "the first answer from %s is not JSON: a proxy or a captive portal may have "
        "answered in its place, and events that count as delivered may be lost",
        host,
    )
