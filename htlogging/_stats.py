"""
Counters: how many events were accepted, delivered, given up and so on.

`Counters` and `Stats` are of one handler. `figures` are of this process since it began:
totals that outlive the handlers, so that they never fall; `htlogging.metrics` reads them.
Sending threads count there; callers count only events that are rejected or dropped.
"""

from __future__ import annotations

from contextlib import suppress

from htlogging._process import fork, locks
from htlogging._process.locks import do_anyway

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging.exceptions import DeliveryError

# Seconds: the upper bounds of the histogram's buckets, the last one aside.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Outcomes with their reasons that are shown from the start: a counter that appears with its
# first loss hides that loss from `rate()`.
_SHOWN = (
    ("delivered", ""),
    ("dropped", "max_queue_bytes"),
    ("dropped", "max_queue_size"),
    ("failed", "network"),
    ("failed", "shutdown"),
    ("rejected", "invalid"),
    ("rejected", "too_large"),
)

# Seconds for which a count waits for another thread's.
_WAIT = 1.0

# Codes that are ours. A server's own are not used: there may be any number of them.
_CODES = ("configuration", "internal", "network", "redis", "shutdown", "spool")


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
        # One lock for each count, held for one addition. Callers and senders add to
        # different counts, so that neither waits for a thread that a signal handler has
        # stopped. Re-entrant: the handler, or a __del__, may be counted as well. A forked
        # child starts with counters of its own.
        self._locks = {name: locks.rlock() for name in names}

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count; from any thread."""
        with self._locks[name]:
            self._counts[name] += count

    def snapshot(self) -> dict[str, int]:
        """Return all counts at one moment; no lock is taken."""
        return self._counts.copy()


class Figures:
    """The totals of this process; a forked child starts at 0."""

    def __init__(self) -> None:
        # Called with a request's status and seconds, on the thread that sends.
        self.observers: tuple[Callable[[str, float], object], ...] = ()
        self._begin()
        fork.register(self)

    def _begin(self) -> None:
        self.events = dict.fromkeys(_SHOWN, 0)
        self.requests: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        # Held for a few additions, as those of `Counters`: callers have a lock of their
        # own, so that no sending thread waits for a caller that a signal handler stopped.
        self._of_callers = locks.rlock()
        self._of_senders = locks.rlock()

    def after_fork_in_child(self) -> None:
        """Begin at 0: what was counted is the parent's."""
        self._begin()

    def delivered(self, count: int) -> None:
        """Count delivered events."""
        self._of_sender(lambda: self._add("delivered", "", count))

    def failed(self, reason: str, count: int) -> None:
        """Count events that were given up."""
        self._of_sender(lambda: self._add("failed", reason, count))

    def dropped(self, reason: str) -> None:
        """Count an event that a full queue refused."""
        with self._of_callers:
            self._add("dropped", reason, 1)

    def rejected(self, error: BaseException | None) -> None:
        """Count an invalid event."""
        with self._of_callers:
            self._add("rejected", _kind(error), 1)

    def _add(self, outcome: str, reason: str, count: int) -> None:
        key = (outcome, reason)
        self.events[key] = self.events.get(key, 0) + count

    def request(self, status: str, seconds: float) -> None:
        """Count a request: its answer's status, or `error`, and how long it took."""
        self._of_sender(lambda: self._add_request(status, seconds))
        for observer in self.observers:
            with suppress(Exception):  # an exporter's error must not cost events
                observer(status, seconds)

    def _add_request(self, status: str, seconds: float) -> None:
        self.requests[status] = self.requests.get(status, 0) + 1
        self.buckets[sum(seconds > bound for bound in BOUNDS)] += 1
        self.seconds += seconds

    def _of_sender(self, work: Callable[[], None]) -> None:
        # A caller's thread counts here too, when it closes a handler or sends itself; a
        # signal handler may have stopped it, and wait for a sending thread.
        do_anyway(self._of_senders, _WAIT, work)


# The process's. Sending threads and callers count; `htlogging.metrics` reads.
figures = Figures()


def reason_of(failure: DeliveryError) -> str:
    """Return why events were given up, as a label: one of a few words."""
    if failure.code.startswith("oauth"):
        return "oauth"
    if failure.status is not None:
        return f"http_{failure.status}"
    return failure.code if failure.code in _CODES else "other"


def _kind(error: BaseException | None) -> str:
    return "too_large" if isinstance(error, RuntimeError) else "invalid"
