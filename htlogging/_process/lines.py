"""
The package's own log, `htlogging`.

There are few lines. An outage is one line when it begins and one when it ends; another
outage within a minute is not logged. The first loss is a line at once; later losses are at
most one line a minute, with the count. At DEBUG every request is a line. No line contains
an event's content, a traceback or a secret.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress

from htlogging._process.loggers import makes_events
from htlogging.exceptions import DeliveryError, HtLoggingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

log = logging.getLogger("htlogging")


def say(line: str, *args: object, level: int = logging.WARNING) -> None:
    """Write a line, and raise nothing."""
    # The application's log handlers and filters run here, on the thread that sends or
    # logs: what they raise must neither cost events nor reach the caller.
    with suppress(Exception):
        # By default a dictConfig that does not name this logger disables it. Losses are
        # reported all the same; to have no lines, set a level or a filter.
        log.disabled = False
        # The handler of last resort shows only the message, so it names the package.
        line = f"{line} [htlogging]"
        with _heard():
            log.log(level, line, *args)


@contextmanager
def _heard() -> Iterator[None]:
    """
    Have a line logged although the thread is inside a handler, as when a queue is full.

    CPython 3.13.4 and 3.13.5 ignore what is logged there (gh-91555, taken back since).
    """
    handling: Any = getattr(logging.Logger, "_tls", None)
    if not getattr(handling, "in_progress", False):
        yield
        return
    handling.in_progress = False
    try:
        yield
    finally:
        handling.in_progress = True


def events(count: int) -> str:
    """Return the word for that many events."""
    return "event" if count == 1 else "events"


def show_debug() -> None:
    """Log every request: the setting `debug`."""
    log.setLevel(logging.DEBUG)
    logger: logging.Logger | None = log
    while logger is not None:
        if not all(map(makes_events, logger.handlers)):
            return
        logger = logger.parent if logger.propagate else None
    # There is no handler for lines, and the one of last resort shows only warnings.
    log.addHandler(logging.StreamHandler())


def what_is_wrong(error: BaseException | None) -> str:
    """Return what is wrong with a record, without a value from it."""
    # Our own texts contain no value; a server's may quote an event.
    if isinstance(error, HtLoggingError) and not isinstance(error, DeliveryError):
        return str(error)
    if error is None:
        return "it makes no event"
    # An error of a filter or of a formatter's hook: its text may contain anything.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    at = ""
    if trace is not None:
        at = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return f"a filter, a formatter or a value raised {type(error).__name__}{at}"


def where(record: logging.LogRecord) -> str:
    """Return where a record was logged, for a line."""
    return f"{record.name!r} at {record.pathname}:{record.lineno}"


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


def no_event(why: str, where: str, hosts: str) -> None:
    """Report a record that looks like an event and is not one."""
    say("a record is no event: %s; logged by %s, for %s", why, where, hosts)


def below_level(where: str, logger: str, above: str, level: str, hosts: str) -> None:
    """
    Report an event that its logger drops because of a level.

    Args:
        where: Its logger, file and line.
        logger: Its logger.
        above: The logger whose level applies.
        level: This level.
        hosts: Where events go.
    """
    say(
        "the event of %s is dropped: the level %s of the logger %r applies; set the level "
        "of %r to INFO (events go to %s)",
        *(where, level, above, logger, hosts),
    )


# Hosts that a line was written about; two threads may write it twice. A forked child
# inherits it, so that there is one line for all children.
_unencrypted: set[str] = set()
_held_back: set[str] = set()
_twice: dict[str, object] = {}


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


def sent_twice(logger: str, host: str) -> None:
    """Report, once for a host, that a logger's records reach two handlers for it."""
    first = object()
    if _twice.setdefault(host, first) is first:  # senders and callers find it
        say(
            "records of the logger %r reach two handlers that send to %s: each is sent "
            "twice; remove one, or set propagate to False",
            logger,
            host,
        )


def doubtful(host: str) -> None:
    """Report a 2xx answer that does not look like Hightouch's."""
    say(
        "the first answer from %s is not JSON: a proxy or a captive portal may have "
        "answered in its place, and events that count as delivered may be lost",
        host,
    )
