"""What a spool's rows are, and how their ids are made."""

from __future__ import annotations

import math
from itertools import groupby
from typing import NamedTuple

from htlogging._queue.spool.checksum import checksum_of, is_sound
from htlogging._queue.spool.schema import MAX_SEQ, SEQ_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Row(NamedTuple):
    """An event that waits; values are what the file gives, of any type if damaged."""

    id: int
    at: float
    crc: int
    body: bytes

    def is_sound(self) -> bool:
        """Return whether it is what was written."""
        return is_sound(self.id, self.crc, self.body)


class Letter(NamedTuple):
    """A dead letter; text is given as bytes."""

    id: int
    at: float
    failed_at: float
    status: int | None
    code: bytes
    message: bytes
    tries: int
    event: int
    crc: int
    body: bytes

    def is_sound(self) -> bool:
        """Return whether it is what was written."""
        return is_sound(self.event, self.crc, self.body)


class Reason(NamedTuple):
    """Why letters of a kind were refused, and how many."""

    status: int | None
    code: bytes
    events: int
    latest: float
    message: bytes


class Sum(NamedTuple):
    """How many rows there are, their bytes, and the times of the first and last."""

    events: int
    size: int
    oldest: float | None
    newest: float | None


class Page(NamedTuple):
    """Events by id, and ids of rows that are not what was written."""

    ids: list[int]
    events: list[bytes]
    damaged: list[int]
    is_all: bool  # whether the range has no more


def id_of(owner: int, seq: int) -> int:
    """Return the id of an owner's event."""
    return owner << SEQ_BITS | seq


def owner_of(event: int) -> tuple[int, int]:
    """Return an event's owner, and its number there."""
    return event >> SEQ_BITS, event & MAX_SEQ


def ends_of(owner: int) -> tuple[int, int]:
    """Return the first and the last id that an owner's events can have."""
    return id_of(owner, 0), id_of(owner, MAX_SEQ)


def is_younger(at: Any, before: float) -> bool:
    """Return whether a time is not before another; so is what is no time any more."""
    return before < math.inf and not (isinstance(at, float) and at < before)


def runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of ids without a gap."""
    found = []
    for _, group in groupby(enumerate(ids), lambda pair: pair[1] - pair[0]):
        run = [event for _, event in group]
        found.append((run[0], run[-1]))
    return found


def row_for(event: int, at: float, body: bytes) -> Row:
    """Return the row of an event."""
    return Row(event, at, checksum_of(event, body), body)
