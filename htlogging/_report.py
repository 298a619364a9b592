"""
What the package says of itself, through the logger `htlogging`.

Sparing: an outage is a line when it begins and one when it ends, and those that follow
within a minute are none; losses are a line at once and then at most one a minute with
the count. At DEBUG every request is one. Never an event's content, never a traceback, never a secret.
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

    A log handler that raises harms nothing: its line is lost, no event is.

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
        self._out_told = False  # whether a line told that this outage began
        self.outage = ""  # why it is one; empty while all goes well

    def lost(self, kind: str, count: int, why: str) -> None:
        """
        Tell of lost events, now or with later ones.

        Args:
            kind: What the lines are counted by: `dropped`, `failed`.
            count: Events, >= 1.
            why: The rest of the line.
        """
        now = self._clock()
        with self._lock:
            total = self._losses.pop(kind, (0, ""))[0] + count
            if self._holding or not self._may_tell(kind, now):
                self._losses[kind] = (total, why)
                return
        _say("%d %s %s: %s", total, _events(total), kind, why)

    def hold(self) -> None:
        """Keep lines back until `remainder`: all losses go into one."""
        with self._lock:
            self._holding = True

    def remainder(self) -> None:
        """Tell of the losses that no line has told of yet: at the end."""
        with self._lock:
            self._holding = False
            losses, self._losses = self._losses, {}
            told = set(self._told)
        for kind, (count, why) in losses.items():
            more = "more " if kind in told else ""
            _say("%d %s%s %s: %s", count, more, _events(count), kind, why)

    def failing(self, why: str, *, closing: bool = False) -> None:
        """
        Note a try that failed and will be repeated; the first begins an outage.

        Args:
            why: In a few words.
            closing: Whether there is hardly time to try again: then no line says so,
                and what gets lost will be one.
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
        """Note an answer that settles events: it ends an outage."""
        with self._lock:
            since, self._out_since = self._out_since, None
            told, self._out_told, self.outage = self._out_told, False, ""
        if since is not None and told:
            _say("events get through again, after %.1f s", self._clock() - since)

    def raised(self, exc: BaseException) -> None:
        """Tell of an `on_error` that raised, by the name of what it raised."""
        now = self._clock()
        with self._lock:
            tell = self._may_tell("on_error", now)
        if tell:
            _say("on_error raised %s", type(exc).__name__)

    def unspooled(self, why: str) -> None:
        """Tell that the spool cannot be used, and events are kept in memory."""
        now = self._clock()
        with self._lock:
            tell = self._may_tell("spool", now)
        if tell:
            _say("the spool cannot be used (%s); events are kept in memory", why)

    def stays(self, count: int) -> None:
        """Tell of events that are left in the spool, at the end."""
        _say("%d %s not delivered yet stay in the spool", count, _events(count))

    def tried(self, count: int, size: int, outcome: str, seconds: float) -> None:
        """
        Tell of a request, at DEBUG.

        Args:
            count: Its events.
            size: Bytes of its body before compression.
            outcome: The answer's status, or why there was none.
            seconds: How long that took.
        """
        line = "%d %s, %d bytes: %s in %.3f s"
        _say(line, count, _events(count), size, outcome, seconds, level=logging.DEBUG)

    def _may_tell(self, kind: str, now: float) -> bool:
        """Tell whether a line of this kind is due, and if so, note that it comes."""
        if now - self._told.get(kind, -math.inf) < QUIET:
            return False
        self._told[kind] = now
        return True


def _say(line: str, *args: object, level: int = logging.WARNING) -> None:
    # The application's log handlers and filters run here, on whichever thread sends or
    # logs: what they raise must not cost events, nor reach the caller.
    with suppress(Exception):
        # A dictConfig that does not name this logger has disabled it, by default. What
        # is lost shall be told all the same; a level or a filter says it shall not.
        log.disabled = False
        log.log(level, line, *args)


def _events(count: int) -> str:
    return "event" if count == 1 else "events"


def show_debug() -> None:
    """Have our own log tell of every request: the setting `debug`."""
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        # Nobody has configured logging; the handler of last resort shows warnings only.
        log.addHandler(logging.StreamHandler())
