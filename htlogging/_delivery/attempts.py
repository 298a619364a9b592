"""The tries of a batch, and events that wait apart for their next try."""

from __future__ import annotations

import os

from htlogging._delivery.retry import part_of, wait
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._delivery.retry import Verdict
    from htlogging._queue.claims import Batch
    from htlogging.exceptions import DeliveryError

# Faults of the server in a row (408, 5xx, connections that are cut) after which a lone
# event lets others go first.
_STUBBORN = 3

# Faults in a row after which a batch is halved, if others get through.
REPEATED = 2

# Faults in a row, of any batches, after which halves are not sent at once any more: an
# event of 2,500 is found after twelve, and one beside it; more look like an outage.
MANY = 24


class Parked:
    """
    Events at which the server fails while it takes others; one sending thread's.

    They are claimed still, and tried again with the waits of any batch.

    Args:
        others: Returns whether other events wait; `None`: nothing is parked.
    """

    def __init__(self, others: Callable[[], object] | None = None) -> None:
        self._others = others
        self._events: list[tuple[float, Batch, int]] = []

    def __len__(self) -> int:
        return len(self._events)

    def takes(self) -> bool:
        """Return whether events are parked here at all."""
        return self._others is not None

    def takes_first(self) -> bool:
        """Return whether none is parked, and others wait."""
        return not self._events and self._others is not None and bool(self._others())

    def add(self, batch: Batch, tries: int, *, rarely: bool = False) -> None:
        """
        Keep a batch until its next try is due.

        Args:
            batch: The batch.
            tries: How often it was tried.
            rarely: Whether all that are parked are tried as often as one.
        """
        share = len(self._events) + 1 if rarely else 1
        due = clock.monotonic() + wait(tries, None, uniform) * share
        self._events.append((due, batch, tries))

    def clear(self) -> None:
        """Forget all: who claims next puts them back."""
        self._events.clear()

    def next_due(self) -> float:
        """Return when the next try is due, in monotonic seconds; infinite: none is."""
        return min((due for due, _, _ in self._events), default=float("inf"))

    def pop(self, *, at_once: bool) -> tuple[Batch, int] | None:
        """
        Take out a batch that is due.

        Args:
            at_once: Whether they all are.

        Returns:
            The batch, and how often it was tried; `None`: none is due.
        """
        now = clock.monotonic()
        for entry in self._events:
            if at_once or entry[0] <= now:
                self._events.remove(entry)
                return entry[1:]
        return None


class Attempts:
    """
    The tries of one batch.

    Args:
        delivered: Requests that had got through before, by any thread.
        parked: Where lone events can wait.
        tries: How often it was tried before.
        once: Whether it is tried once, then parked again.
        halving: Whether it is known that the server fails at one of its events.
    """

    __slots__ = ("delivered", "faults", "halving", "once", "parked", "part", "tries")

    def __init__(
        self,
        delivered: int,
        parked: Parked,
        tries: int = 0,
        *,
        once: bool = False,
        halving: bool = False,
    ) -> None:
        self.delivered = delivered
        self.parked = parked
        self.tries = tries
        self.once = once
        self.halving = halving
        self.faults = 0  # in a row
        self.part = 1  # the part that is sent, as in `part_of`

    def next_part(self, count: int) -> None:
        """Send another part next time; after the smallest ones, the whole."""
        number = self.part
        while True:
            number += 1
            if number >= 2 * count:
                self.part = 1
                return
            first, end = part_of(count, number // 2)
            if end - first > 1:
                self.part = number
                return

    def may_park(self, batch: Batch, *, well: bool) -> bool:
        """
        Return whether the batch lets others go first, after a fault.

        Args:
            batch: The batch.
            well: Whether the server has taken another one since.
        """
        if not self.parked.takes() or len(batch) > 1:
            return False
        if self.halving:
            return True
        # In an outage all events fail: then the next batch shows that, and one is parked
        # in vain.
        return self.faults >= _STUBBORN and (well or self.parked.takes_first())


class Result:
    """
    What came of one try.

    Args:
        verdict: What happens to the events.
        failure: Why they were not delivered; `None` if they were.
        retry_after: Seconds that the server asks to wait, or `None`.
        stale: As in `Unreachable`.
        fault: Whether the server failed, perhaps at one of the events.
    """

    __slots__ = ("failure", "fault", "retry_after", "stale", "verdict")

    def __init__(
        self,
        verdict: Verdict,
        failure: DeliveryError | None = None,
        retry_after: float | None = None,
        *,
        stale: bool = False,
        fault: bool = False,
    ) -> None:
        self.verdict = verdict
        self.failure = failure
        self.retry_after = retry_after
        self.stale = stale
        self.fault = fault


def uniform() -> float:
    """Return a random number of [0, 1)."""
    # Not random.random(): seeded by the application, its processes would wait alike.
    return int.from_bytes(os.urandom(4), "big") / 2**32
