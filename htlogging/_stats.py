"""Counters: how many events were accepted, delivered, given up and so on."""

from __future__ import annotations

import threading

TYPE_CHECKING = False


class Stats(dict[str, int]):
    """
    The counters at one moment: a dict whose keys are attributes too (`stats.queued`).

    In each, `accepted == delivered + failed + queued`.
    """

    accepted: int
    queued: int
    queued_bytes: int
    delivered: int
    rejected: int
    dropped: int
    failed: int
    retries: int
    unspooled: int

    # A name that is misspelt is an error for type checkers: they do not see this.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> int:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(name) from None

    @classmethod
    def none(cls) -> Stats:
        """Return counters that are all 0."""
        return cls(dict.fromkeys(cls.__annotations__, 0))


class Counters:
    """The counts of one handler, except accepted and queued, which the queue knows."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("rejected", "dropped", "retries", "unspooled"), 0)
        # Guards _counts only, for a few operations. Re-entrant: a signal handler or a
        # __del__ may log, and be counted, while this thread counts. A forked child
        # starts with counters of its own.
        self._lock = threading.RLock()

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count; from any thread."""
        with self._lock:
            self._counts[name] += count

    def snapshot(self) -> dict[str, int]:
        """Return all counts at one moment."""
        with self._lock:
            return dict(self._counts)
