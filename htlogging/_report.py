"""
What the package says of itself, through the logger `htlogging`.

Sparing: an outage is a line when it begins and one when it ends; losses are a line at
once and then at most one a minute with the count. Never an event's content, never a
traceback, never a secret.
"""

from __future__ import annotations

import logging
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("htlogging")

# Seconds between two lines of the same kind.
QUIET = 60.0


class Report:
    """
    The lines of one handler.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards what is below; never held while logging, for a log handler may come
        # back here. Re-entrant for signal handlers. A forked child has its own.
        self._lock = threading.RLock()
        self._losses: dict[str, int] = {}  # kind -> events not yet told of
        self._told: dict[str, float] = {}  # kind -> when a line was last written
        self._out_since: float | None = None

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
            total = self._losses.get(kind, 0) + count
            last = self._told.get(kind)
            if last is not None and now - last < QUIET:
                self._losses[kind] = total
                return
            self._losses[kind] = 0
            self._told[kind] = now
        log.warning("%d %s %s: %s", total, _events(total), kind, why)

    def remainder(self) -> None:
        """Tell of the losses that no line has told of yet: at the end."""
        with self._lock:
            losses, self._losses = self._losses, {}
        for kind, count in losses.items():
            if count:
                log.warning("%d more %s %s", count, _events(count), kind)

    def failing(self, why: str) -> None:
        """Note a try that failed and will be repeated; the first begins an outage."""
        with self._lock:
            begins = self._out_since is None
            if begins:
                self._out_since = self._clock()
        if begins:
            log.warning("events do not get through (%s); trying again", why)

    def working(self) -> None:
        """Note an answer that settles events: it ends an outage."""
        with self._lock:
            since, self._out_since = self._out_since, None
        if since is not None:
            log.warning("events get through again, after %.1f s", self._clock() - since)


def _events(count: int) -> str:
    return "event" if count == 1 else "events"


def show_debug() -> None:
    """Have our own log tell of every request: the setting `debug`."""
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        # Nobody has configured logging; the handler of last resort shows warnings only.
        log.addHandler(logging.StreamHandler())
