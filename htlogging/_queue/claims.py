"""Batches, and which of them are claimed, released and settled; shared by all queues."""

from __future__ import annotations

from htlogging._process import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from htlogging._queue.base import Holder

    Key = tuple[int, int]  # a batch's source and its first event's number
    Claim = tuple["Batch", Holder | None]  # a batch that is not settled, and its worker


# Why overdue events are given up: the message of a DeliveryError with the code `spool`. A
# spool keeps events with this reason as dead letters.
TOO_OLD = "too old"


class Counts:
    """
    How many of a queue's events are delivered, failed and queued.

    Args:
        delivered: Events that were delivered.
        failed: Events that were given up.
        queued: Events that are not settled yet.
        queued_bytes: Bytes of the queued events in memory.
    """

    __slots__ = ("delivered", "failed", "queued", "queued_bytes")

    def __init__(
        self, delivered: int, failed: int, queued: int, queued_bytes: int = 0
    ) -> None:
        self.delivered = delivered
        self.failed = failed
        self.queued = queued
        self.queued_bytes = queued_bytes

    def __add__(self, other: Counts) -> Counts:
        """Return the sum of two queues' counts."""
        return Counts(
            self.delivered + other.delivered,
            self.failed + other.failed,
            self.queued + other.queued,
            self.queued_bytes + other.queued_bytes,
        )

    @property
    def accepted(self) -> int:
        """How many events were accepted."""
        return self.delivered + self.failed + self.queued


class Batch:
    """
    Events taken from a queue, to be sent in a request and settled together.

    Args:
        events: The JSON of each, in the order accepted; not empty.
        ids: The queue's number of each.
        source: Which series the numbers belong to, if a queue has several.
    """

    __slots__ = ("events", "faults", "ids", "source", "was_released")

    def __init__(
        self, events: Sequence[bytes], ids: Sequence[int], source: int = 0
    ) -> None:
        self.events = events
        self.ids = ids
        self.source = source
        self.faults = 0  # how often an error of this package interrupted sending it
        self.was_released = False  # the thread that claimed it first sends it no more

    def __len__(self) -> int:
        return len(self.events)

    def halves(self) -> tuple[Batch, Batch]:
        """Return its two halves, in order; it has two or more events."""
        middle = len(self.events) // 2
        return (
            Batch(self.events[:middle], self.ids[:middle], self.source),
            Batch(self.events[middle:], self.ids[middle:], self.source),
        )


def fitting(sizes: Iterable[int], max_bytes: float) -> int:
    """
    Return how many of the first events fit into a request; the first always does.

    Args:
        sizes: Bytes of each event.
        max_bytes: The most bytes, with a comma for each event.
    """
    count = 0
    for size in sizes:
        max_bytes -= size + 1
        if max_bytes < 0 and count:
            break
        count += 1
    return count


class State:
    """All that a `ClaimTable` knows. It is replaced as a whole, so a change is one step."""

    __slots__ = (
        "claimed",
        "claimed_bytes",
        "claims",
        "delivered",
        "failed",
        "leaving",
        "released",
        "taken",
        "taken_bytes",
    )

    def __init__(self) -> None:
        self.claims: Mapping[Key, Claim] = {}
        self.released: tuple[
            Batch, ...
        ] = ()  # of the claims, those to be claimed again
        self.claimed = 0  # events in claims
        self.claimed_bytes = 0
        self.delivered = 0
        self.failed = 0
        # For a queue that numbers its events in order: the next one to be claimed, the
        # bytes of those before it, and the batch that must still leave the line.
        self.taken = 0
        self.taken_bytes = 0
        self.leaving: Batch | None = None

    def but(self, **changes: Any) -> State:
        """Return a copy with other values."""
        new = State()
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        for name, value in changes.items():
            setattr(new, name, value)
        return new


class ClaimTable:
    """
    The claimed batches of a queue, and how many events were settled.

    `EventQueue` describes the methods that a queue has from here.

    Any thread may read `state` without a lock; it is consistent.
    """

    def __init__(self) -> None:
        self.state = State()
        # Guards replacing `state`, for a few operations; no I/O, no logging and no other
        # lock while held. Only sending threads take it, never `put`, `flush` or `counts`.
        # So when a signal handler interrupts one of those, no sending thread waits for
        # the interrupted call. Re-entrant for an event that is sent on its caller's
        # thread. A forked child has a queue of its own.
        self._changing = locks.rlock()

    def note(self, batch: Batch, holder: Holder | None, **more: Any) -> Batch:
        """
        Note that a batch is claimed.

        Args:
            batch: Events that are in no other claim.
            holder: Its worker.
            more: Fields of `State` that change in the same step.
        """
        with self._changing:
            state = self.state
            self.state = state.but(
                claims={**state.claims, _key(batch): (batch, holder)},
                claimed=state.claimed + len(batch),
                claimed_bytes=state.claimed_bytes + _size(batch),
                **more,
            )
        return batch

    def reclaim(self, holder: Holder | None) -> Batch | None:
        """Claim a released batch again, as it was."""
        with self._changing:
            state = self.state
            if not state.released:
                return None
            batch = state.released[0]
            self.state = state.but(
                claims={**state.claims, _key(batch): (batch, holder)},
                released=state.released[1:],
            )
            return batch

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        halves = batch.halves()
        with self._changing:
            state = self.state
            found = state.claims.get(_key(batch))
            if found is not None and found[0] is batch:
                new = {_key(half): (half, found[1]) for half in halves}
                self.state = state.but(claims={**state.claims, **new})
        return halves

    def settle(self, batch: Batch, *, delivered: bool) -> bool:
        """Count a batch as delivered or failed; return whether it was claimed."""
        with self._changing:
            state = self.state
            if not _has(state, batch):
                return False
            key = _key(batch)
            self.state = state.but(
                claims={k: claim for k, claim in state.claims.items() if k != key},
                released=tuple(one for one in state.released if one is not batch),
                claimed=state.claimed - len(batch),
                claimed_bytes=state.claimed_bytes - _size(batch),
                delivered=state.delivered + len(batch) * delivered,
                failed=state.failed + len(batch) * (not delivered),
            )
            return True

    def release(self, batch: Batch) -> None:
        """Give a claimed batch back, for `reclaim`."""
        with self._changing:
            state = self.state
            if _has(state, batch) and batch not in state.released:
                batch.was_released = True
                self.state = state.but(released=(*state.released, batch))

    def recover(self) -> bool:
        lost = self._lost()
        for batch in lost:
            self.release(batch)
        return bool(lost)

    def has_lost(self) -> bool:
        return bool(self._lost())

    def _lost(self) -> list[Batch]:
        state = self.state
        return [
            batch
            for batch, holder in state.claims.values()
            if holder is not None
            and not holder.locked()
            and batch not in state.released
        ]

    def stops_senders(self) -> bool:
        return locks.is_mine(self._changing)

    def drop(self) -> list[Batch]:
        """Count all claimed batches as failed, and return them."""
        with self._changing:
            state = self.state
            self.state = state.but(
                claims={},
                released=(),
                claimed=0,
                claimed_bytes=0,
                failed=state.failed + state.claimed,
            )
            return [batch for batch, _ in state.claims.values()]

    def forget(self, source: int) -> list[Batch]:
        """Forget the claims of a source, without counting them; return them."""
        with self._changing:
            state = self.state
            kept = {key: one for key, one in state.claims.items() if key[0] != source}
            left = [one for key, (one, _) in state.claims.items() if key[0] == source]
            self.state = state.but(
                claims=kept,
                released=tuple(one for one in state.released if one.source != source),
                claimed=state.claimed - sum(map(len, left)),
                claimed_bytes=state.claimed_bytes - sum(map(_size, left)),
            )
            return left

    def has_before(self, number: int, source: int = 0) -> bool:
        """
        Return whether an event with a lower number than this is claimed.

        Not one that its caller sends (it has a negative number), unless that was cut
        short.
        """
        return any(
            of == source and first < number and (first >= 0 or batch.was_released)
            for (of, first), (batch, _) in self.state.claims.items()
        )


def _key(batch: Batch) -> Key:
    return batch.source, batch.ids[0]


def _size(batch: Batch) -> int:
    return sum(map(len, batch.events))


def _has(state: State, batch: Batch) -> bool:
    found = state.claims.get(_key(batch))
    return found is not None and found[0] is batch
