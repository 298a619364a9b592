"""Send the events of a source, batch by batch, on the calling thread."""

from __future__ import annotations

import math
import threading
from contextlib import closing
from typing import Generic, TypeVar

from htlogging._delivery.outcomes import Outcomes
from htlogging._delivery.retry import is_of_one_event, may_pass
from htlogging._delivery.sender import Sender
from htlogging._delivery.transport import HttpTransport
from htlogging._queue.claims import Batch
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging._stats import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from htlogging._queue.base import Claims
    from htlogging.exceptions import DeliveryError

    class Source(Claims, Protocol):
        """A queue that only this thread uses."""

        def claim(self, max_count: int, max_bytes: int) -> Batch | None:
            """Take the next events; `None` if there are no more, or sending must stop."""


T = TypeVar("T")


class Lookahead(Generic[T]):
    """
    Events of a source, taken as many as fit into a request.

    Args:
        source: Yields what an event belongs to, and its JSON.
    """

    def __init__(self, source: Iterator[tuple[T, bytes]]) -> None:
        self._source = source
        self._ahead: tuple[T, bytes] | None = None  # read, but did not fit

    def take(self, max_count: int, max_bytes: int) -> Iterator[tuple[T, bytes]]:
        """
        Yield the next events; use one up before the next is read.

        Args:
            max_count: The most events.
            max_bytes: The most bytes, with a comma for each event. A larger event comes
                alone.
        """
        count = 0
        while count < max_count:
            found = self._ahead or next(self._source, None)
            self._ahead = None
            if found is None:
                return
            max_bytes -= len(found[1]) + 1
            if max_bytes < 0 and count:
                self._ahead = found
                return
            count += 1
            yield found


class StoredSource:
    """The part of a source that is the same wherever events are stored until settled."""

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Halve a claimed batch."""
        return batch.halves()

    def release(self, batch: Batch) -> None:
        """Do nothing: the events are still there."""

    def overdue(self, batch: Batch) -> bool:  # noqa: ARG002
        """Return `False`: nothing becomes too old."""
        return False

    def outlives(self, batch: Batch) -> bool:  # noqa: ARG002
        """Return `False`: `--max-retries` says how often a batch is tried."""
        return False


class Rows(StoredSource):
    """
    Events that are stored by a key, as a queue for one thread.

    When the server cannot be reached, or refuses for a reason that concerns all events,
    nothing more is claimed, and the rest stays as it is.
    """

    def __init__(self) -> None:
        self._left = Lookahead(self._rows())
        self.delivered = 0
        self.refused = 0
        self.stopped: DeliveryError | None = None  # why nothing more is claimed

    def count(self) -> int:
        """Return how many there are to send."""
        raise NotImplementedError  # pragma: no cover  (each subclass has its own)

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield each row's key and event."""
        raise NotImplementedError  # pragma: no cover  (each subclass has its own)

    def _remove(self, batch: Batch) -> None:
        """Remove delivered rows."""
        raise NotImplementedError  # pragma: no cover  (each subclass has its own)

    def _refuse(self, batch: Batch, failure: DeliveryError) -> None:
        """Save why rows were refused."""

    def _settled(self) -> None:
        """Note that `delivered` or `refused` has changed."""

    def claim(self, max_count: int, max_bytes: int) -> Batch | None:
        """Take the next rows; `None` if there are none, or sending must stop."""
        keys: list[int] = []
        events: list[bytes] = []
        if self.stopped is None:
            for key, event in self._left.take(max_count, max_bytes):
                keys.append(key)
                events.append(event)
        return Batch(events, keys) if events else None

    def ack(self, batch: Batch) -> bool:
        """Remove delivered rows."""
        self._remove(batch)
        self.delivered += len(batch)
        self._settled()
        return True

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """Save why rows were refused; after an outage leave them as they are."""
        if not concerns_one(failure):
            self.stopped = failure
        if is_refusal(failure):
            self._refuse(batch, failure)
            self.refused += len(batch)
            self._settled()
        return True


class Notes(Report):
    """
    Prints lines about an outage. The source itself reports refused events.

    Args:
        say: Called with each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def try_failed(self, why: str, *, closing: bool = False) -> None:  # noqa: ARG002
        """Print a line for each failed try: a person is watching."""
        self._say(f"no success yet ({why}); trying again")

    def answered(self) -> None:
        """Do nothing: the progress bar shows it."""

    def lost(self, outcome: str, count: int, why: str, kind: str = "") -> None:
        """Do nothing: the source reports them."""


class _NoDeadline:
    """No deadline: only `max_retries` and Ctrl+C end the retries."""

    def left(self) -> float:
        return math.inf

    def pause(self, seconds: float) -> bool:
        threading.Event().wait(seconds)
        return True

    def is_last(self) -> bool:
        return False


def send_all(
    settings: Settings,
    source: Source,
    note: Callable[[str], None],
    limit: Callable[[int], int] = int,
) -> None:
    """
    Send until the source has no more.

    A batch is sent again up to `max_retries` times; then the source buries it.

    Args:
        settings: write_key, host, gzip, timeout, max_retries, proxies.
        source: Where batches are claimed and settled.
        note: Called with lines about failed tries.
        limit: Called with the most events that a request may have; may return fewer.
    """
    outcomes = Outcomes(settings, source, Counters(), Notes(note))
    deadline = _NoDeadline()
    with closing(Sender(outcomes, HttpTransport(settings))) as sender:
        while batch := source.claim(limit(outcomes.limit), sender.room):
            sender.deliver(batch, deadline)


def concerns_one(failure: DeliveryError) -> bool:
    """Return whether only this event is refused, and others may be accepted."""
    return failure.status is not None and is_of_one_event(failure.status)


def is_refusal(failure: DeliveryError) -> bool:
    """Return whether the server refused for good: it is not an outage."""
    return failure.status is not None and not may_pass(failure.status)
