"""Which batches are claimed, released and settled: the part that all queues share."""

from __future__ import annotations

import threading

from htlogging._queue.base import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from htlogging._queue.base import Holder

    Key = tuple[int, int]  # a batch's source and its first event's number
    Claim = tuple[Batch, Holder | None]  # not settled, and who works on it


class State:
    """All that a ledger knows, replaced as a whole: nothing can cut a change in two."""

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
        # Of a queue whose events are numbered in the order they came: the next one to
        # be claimed, the bytes of those before it, and what has yet to leave the line.
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


class Claims:
    """
    A queue's ledger of claimed batches, and of what became of them.

    Any thread may read `state`, which is one moment's; it needs no lock.
    """

    def __init__(self) -> None:
        self.state = State()
        # Held by who replaces `state`, for a few operations; no I/O and no logging
        # while held, and no other lock is taken. Only who sends changes it, not who
        # puts, flushes or counts: a signal handler that interrupts those never finds
        # the sending thread waiting for what it interrupted. Re-entrant for what sends
        # on its caller's thread. A forked child has a queue of its own.
        self._changing = threading.RLock()

    def note(self, batch: Batch, holder: Holder | None, **more: Any) -> Batch:
        """
        Note that a batch is claimed.

        Args:
            batch: Events that are in no other claim.
            holder: Who works on it.
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
        """Claim a batch that was released, as it was."""
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
        """Halve a claimed batch, of two events or more; each half is settled alone."""
        halves = batch.halves()
        with self._changing:
            state = self.state
            found = state.claims.get(_key(batch))
            if found is not None and found[0] is batch:
                new = {_key(half): (half, found[1]) for half in halves}
                self.state = state.but(claims={**state.claims, **new})
        return halves

    def settle(self, batch: Batch, *, delivered: bool) -> bool:
        """Count a claimed batch as delivered or failed; return whether it was one."""
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
        """Let `reclaim` have a claimed batch."""
        with self._changing:
            state = self.state
            if _has(state, batch) and batch not in state.released:
                self.state = state.but(released=(*state.released, batch))

    def recover(self) -> bool:
        """Release what is claimed and nobody works on; return whether there was."""
        state = self.state
        lost = [
            batch
            for batch, holder in state.claims.values()
            if holder is not None
            and not holder.locked()
            and batch not in state.released
        ]
        for batch in lost:
            self.release(batch)
        return bool(lost)

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

    def has_before(self, number: int, source: int = 0) -> bool:
        """Return whether an event of a number below this one is claimed."""
        return any(
            of == source and 0 <= first < number for of, first in self.state.claims
        )


def _key(batch: Batch) -> Key:
    return batch.source, batch.ids[0]


def _size(batch: Batch) -> int:
    return sum(map(len, batch.events))


def _has(state: State, batch: Batch) -> bool:
    found = state.claims.get(_key(batch))
    return found is not None and found[0] is batch
