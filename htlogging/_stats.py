"""Counters: what became of every event."""

from __future__ import annotations

import threading


class Stats(dict[str, int]):
    """
    The counters at one moment: a dict that answers to `stats.queued` as well.

    `accepted == delivered + failed + queued` holds in each.
    """

    def __getattr__(self, name: str) -> int:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Counters:
    """The counts that are kept; what is accepted and queued follows from the queue."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(
            ("delivered", "rejected", "dropped", "failed", "retries", "unspooled"), 0
        )
        # Guards _counts only, for a few operations. Re-entrant: a signal handler or a
        # __del__ may log, and be counted, while this thread counts. A forked child
        # starts with counters of its own.
        self._lock = threading.RLock()

    def add(self, name: str, count: int = 1) -> None:
        """Count so many more; from any thread."""
        with self._lock:
            self._counts[name] += count

    def snapshot(self) -> dict[str, int]:
        """Return all counts as of one moment."""
        with self._lock:
            return dict(self._counts)
