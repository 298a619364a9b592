"""
The package's own log, `htlogging`.

There are few lines. An outage is one line when it begins and one when it ends; another
outage within a minute is not logged. The first loss is a line at once; later losses are at
most one line a minute, with the count. At DEBUG every request is a line. No line contains
an event's content, a traceback or a secret.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("htlogging")

# Seconds between two lines of the same kind.
QUIET = 60.0


class Report:
    """
    The lines of one handler.

    A log handler that raises does no harm: its line is lost, but no event.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards what is below; never held while logging, for a log handler may come
        # back here. Re-entrant for signal handlers. A forked child has its own.
        self._lock = threading.RLock()
        # kind -> events not yet told of, and why the last of them were lost
        self._losses: dict[str, tuple[int, str]] = {}
        self._holding = False
        self._told: dict[str, float] = {}  # kind -> when a line was last written
        self._out_since: float | None = None
        self._out_told = False  # whether a line said that this outage began
        self.outage = ""  # the reason for the outage; empty while there is none

    def lost(self, kind: str, count: int, why: str) -> None:
        """
        Report lost events, now or together with later ones.

        Args:
            kind: What is counted: `dropped` or `failed`.
            count: Events, >= 1.
            why: The reason, which ends the line.
        """
        now = self._clock()
        with self._lock:
            total = self._losses.pop(kind, (0, ""))[0] + count
            if self._holding or not self._may_tell(kind, now):
                self._losses[kind] = (total, why)
                return
        _say("%d %s %s: %s", total, _events(total), kind, why)

    def hold(self) -> None:
        """Hold lines back until `remainder`: all losses then make one line."""
        with self._lock:
            self._holding = True

    def remainder(self) -> None:
        """Report the losses that no line has counted yet; called at the end."""
        with self._lock:
            self._holding = False
            losses, self._losses = self._losses, {}
            told = set(self._told)
        for kind, (count, why) in losses.items():
            more = "more " if kind in told else ""
            _say("%d %s%s %s: %s", count, more, _events(count), kind, why)

    def failing(self, why: str, *, closing: bool = False) -> None:
        """
        Note a failed try that will be repeated; the first one begins an outage.

        Args:
            why: The reason, in a few words.
            closing: Whether there is hardly time to try again. Then there is no line
                about the outage, only one about the events that are lost.
        """
        now = self._clock()
        with self._lock:
            if self._out_since is None:
                self._out_since = now
            self.outage = why
            if closing or self._out_told or not self._may_tell("outage", now):
                return
            self._out_told = True
        _say("events do not get through (%s); trying again", why)

    def working(self) -> None:
        """Note an answer that settles events; it ends an outage."""
        with self._lock:
            since, self._out_since = self._out_since, None
            told, self._out_told, self.outage = self._out_told, False, ""
        if since is not None and told:
            _say("events get through again, after %.1f s", self._clock() - since)

    def raised(self, exc: BaseException) -> None:
        """Report an `on_error` that raised, by the name of the exception's class."""
        now = self._clock()
        with self._lock:
            tell = self._may_tell("on_error", now)
        if tell:
            _say("on_error raised %s", type(exc).__name__)

    def unspooled(self, why: str) -> None:
        """Report that the spool cannot be used, and events are kept in memory."""
        now = self._clock()
        with self._lock:
            tell = self._may_tell("spool", now)
        if tell:
            _say("the spool cannot be used (%s); events are kept in memory", why)

    def stays(self, count: int) -> None:
        """Report the events that stay in the spool at the end."""
        _say("%d %s not delivered yet stay in the spool", count, _events(count))

    def tried(self, count: int, size: int, outcome: str, seconds: float) -> None:
        """
        Report a request, at DEBUG.

        Args:
            count: Events in it.
            size: Bytes of its body before compression.
            outcome: The answer's status, or why there was no answer.
            seconds: How long that took.
        """
        line = "%d %s, %d bytes: %s in %.3f s"
        _say(line, count, _events(count), size, outcome, seconds, level=logging.DEBUG)

    def _may_tell(self, kind: str, now: float) -> bool:
        """Return whether a line of this kind may be written, and note that it is."""
        if now - self._told.get(kind, -math.inf) < QUIET:
            return False
        self._told[kind] = now
        return True


def _say(line: str, *args: object, level: int = logging.WARNING) -> None:
    # The application's log handlers and filters run here, on the thread that sends or
    # logs: what they raise must neither cost events nor reach the caller.
    with suppress(Exception):
        # By default a dictConfig that does not name this logger disables it. Losses are
        # reported all the same; whoever wants no lines sets a level or a filter.
        log.disabled = False
        log.log(level, line, *args)


def _events(count: int) -> str:
    return "event" if count == 1 else "events"


def show_debug() -> None:
    """Log every request: the setting `debug`."""
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        # Logging is not configured, and the handler of last resort shows only warnings.
        log.addHandler(logging.StreamHandler())
