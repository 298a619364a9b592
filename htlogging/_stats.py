"""Counters: how many events were accepted, delivered, given up and so on."""

from __future__ import annotations

from htlogging._process import locks

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
    """The counts of one handler that its queue does not know."""

    def __init__(self) -> None:
        names = ("rejected", "dropped", "retries", "unspooled")
        self._counts = dict.fromkeys(names, 0)
        # One lock a count, held for one addition: callers count what they count, and
        # senders theirs, so that neither waits for a thread that a signal handler has
        # stopped. Re-entrant: the handler, or a __del__, may be counted as well. A
        # forked child starts with counters of its own.
        self._locks = {name: locks.rlock() for name in names}

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count; from any thread."""
        with self._locks[name]:
            self._counts[name] += count

    def snapshot(self) -> dict[str, int]:
        """Return all counts at one moment; no lock is taken."""
        return self._counts.copy()
