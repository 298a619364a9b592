"""
The stream as a queue to send from: a relay's consumer in the group.

An entry is claimed with XREADGROUP, sent in one or more requests, and then acknowledged and
deleted in one transaction. Until then it is in the group's list of pending entries, and when
its relay dies, another takes it over with XAUTOCLAIM. So an event is sent at least once.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress

from htlogging._process import locks
from htlogging._queue.claims import Batch, fitting
from htlogging._queue.redis.entry import InvalidEntry, events
from htlogging._queue.scrubbing import scrubbed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from htlogging._settings.redis_location import Location
    from htlogging.exceptions import DeliveryError

GROUP = "relay"

# An entry that is unclaimed in effect: any relay takes it over at once.
_LONG_AGO = 10**9  # ms

# Removes a consumer that has nothing and was not seen for a while: both are looked at in
# the same step, for with a consumer its pending entries are forgotten.
_REMOVE = """
local found = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, consumer in ipairs(found) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields['pending'] == 0 and fields['idle'] > tonumber(ARGV[2])
     and fields['name'] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
  end
end
return #found
"""


class Entry:
    """
    An entry that this relay has claimed.

    Args:
        number: Its id in the stream.
        left: Its events that are not settled yet.
    """

    __slots__ = ("left", "number")

    def __init__(self, number: bytes, left: int) -> None:
        self.number = number
        self.left = left


class RelayQueue:
    """
    The entries of a stream, for the threads of one relay; `Claims` describes the verbs.

    Args:
        location: Where the stream is.
        consumer: This relay's name in the group: no two alive have the same.
        timeout: Seconds for a connection and for each answer of Redis.
        take_over: Seconds without a sign of life after which another relay's entries are
            taken over.
        settled: Called with how many events were delivered and how many buried.

    Methods raise what redis-py raises; the relay waits and calls them again.
    """

    def __init__(
        self,
        location: Location,
        consumer: str,
        *,
        timeout: float,
        take_over: float,
        settled: Callable[[int, int], None],
    ) -> None:
        self._location = location
        self._stream = location.stream
        self._consumer = consumer
        self._take_over = take_over
        self._settled = settled
        # redis-py's clients may be used by several threads; each takes a connection.
        self._client: Any = location.connect(timeout)
        # Guards what is below, for a few operations; no I/O while held. The relay does
        # not fork.
        self._lock = locks.lock()
        self._held: dict[int, Entry] = {}  # number of ours -> an entry that is claimed
        self._number = 0
        self._again: deque[Batch] = deque()  # released, or not taken with its entry
        self._done: list[bytes] = []  # settled, but not acknowledged: Redis was away
        # Given up, but not yet among the dead letters, and why; not settled until then.
        self._unburied: deque[tuple[Batch, dict[str, str]]] = deque()
        self._looked = 0.0  # when entries of the dead were last looked for
        self._cursor: bytes | str = "0-0"
        self._grouped = False

    def claim(self, max_count: int, max_bytes: int) -> Batch | None:
        """Take an entry's events, or those released; `None` if there are none now."""
        self._bury_all()
        self.finish()
        with self._lock:
            if self._again:
                return self._again.popleft()
        found = self._read()
        if found is None:
            return None
        number, fields = found
        try:
            taken = events(fields)
        except InvalidEntry as exc:
            self._set_aside(number, fields, str(exc))
            return None
        with self._lock:
            self._number += 1
            source = self._number
            self._held[source] = Entry(number, len(taken))
        batches: list[Batch] = list(_cut(taken, source, max_count, max_bytes))
        with self._lock:
            self._again.extend(batches[1:])
        return batches[0]

    def _read(self) -> tuple[bytes, dict[bytes, bytes]] | None:
        """Return an entry of the dead, if it is time to look, else a new one."""
        self.ensure_group()
        now = time.monotonic()
        with self._lock:
            look = now - self._looked >= min(self._take_over / 3, 5.0)
            if look:
                self._looked = now
        if look:
            found = self._client.xautoclaim(
                self._stream,
                GROUP,
                self._consumer,
                min_idle_time=int(self._take_over * 1000),
                start_id=self._cursor,
                count=1,
            )
            self._cursor = found[0]
            for number, fields in found[1]:
                with self._lock:
                    self._looked = 0.0  # there may be more
                    ours = {e.number for e in self._held.values()} | {*self._done}
                # Ours may be among them after a long sleep of the machine.
                if number not in ours and fields:
                    return number, fields
        answer = self._client.xreadgroup(
            GROUP, self._consumer, {self._stream: ">"}, count=1
        )
        entries = _entries(answer)
        return entries[0] if entries else None

    def ensure_group(self) -> None:
        """Make the group and the stream, unless they are there."""
        if self._grouped:
            return
        import redis

        try:
            self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as exc:
            if "BUSYGROUP" not in str(exc):
                raise
        self._grouped = True

    def forget_group(self) -> None:
        """Have the group made again: it is gone with a stream that was deleted."""
        self._grouped = False

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        return batch.halves()

    def ack(self, batch: Batch) -> bool:
        """Count delivered events; with the last of an entry, remove it from the stream."""
        self._settle(batch)
        self._settled(len(batch), 0)
        return True

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """
        Append events that were given up to the stream of dead letters, each with why.

        While Redis is away they are kept in mind, and the next `claim` appends them.
        """
        why = {
            "status": "" if failure.status is None else str(failure.status),
            "code": failure.code,
            "message": scrubbed(failure, batch.events).message,
            "tries": str(failure.tries),
        }
        with self._lock:
            self._unburied.append((batch, why))
        with suppress(Exception):
            self._bury_all()
        return True

    def _bury_all(self) -> None:
        while True:
            with self._lock:
                if not self._unburied:
                    return
                batch, why = self._unburied.popleft()
            try:
                self._append_dead(batch.events, why)
            except BaseException:
                with self._lock:
                    self._unburied.appendleft((batch, why))
                raise
            self._settle(batch)
            self._settled(0, len(batch))

    def release(self, batch: Batch) -> None:
        with self._lock:
            self._again.append(batch)

    def overdue(self, batch: Batch) -> bool:  # noqa: ARG002
        """Return `False`: nothing becomes too old."""
        return False

    def outlives(self, batch: Batch) -> bool:  # noqa: ARG002
        """Return `True`: they are in the stream until they are settled."""
        return True

    def _settle(self, batch: Batch) -> None:
        with self._lock:
            entry = self._held[batch.source]
            entry.left -= len(batch)
            if entry.left == 0:
                del self._held[batch.source]
                self._done.append(entry.number)
        with suppress(Exception):  # kept in mind; the next claim finishes it
            self.finish()

    def finish(self) -> None:
        """Remove the entries that are settled; keep them in mind while Redis is away."""
        with self._lock:
            done, self._done = self._done, []
        if not done:
            return
        try:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.xack(self._stream, GROUP, *done)
            pipeline.xdel(self._stream, *done)
            pipeline.execute()
        except BaseException:
            with self._lock:
                self._done = done + self._done
            raise

    def _append_dead(self, bodies: Any, why: dict[str, str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for body in bodies:
            fields = {"at": repr(time.time()), **why, "event": body}
            pipeline.xadd(self._location.dead, fields)
        pipeline.execute()

    def _set_aside(
        self, number: bytes, fields: dict[bytes, bytes], reason: str
    ) -> None:
        """Move an entry that is none of ours to the dead letters, as it is."""
        why = {"code": "entry", "message": reason, "status": "", "tries": "0"}
        self._append_dead([fields.get(b"events", b"")], {**why, "raw": "1"})
        with self._lock:
            self._done.append(number)
        self.finish()
        self._settled(0, 1)

    def show_life(self) -> None:
        """Tell Redis that this relay lives: what it has claimed stays its own."""
        with self._lock:
            numbers = [entry.number for entry in self._held.values()] + self._done
        if numbers:
            self._reclaim(numbers)

    def _reclaim(self, numbers: list[bytes], idle: int | None = None) -> None:
        """Claim our entries once more, as idle for this many milliseconds; `None`: 0."""
        self._client.xclaim(
            self._stream,
            GROUP,
            self._consumer,
            min_idle_time=0,
            message_ids=numbers,
            idle=idle,
            justid=True,
        )

    def remove_dead_consumers(self, silent: float) -> None:
        """
        Remove the names of relays that are gone and have left nothing.

        Args:
            silent: Seconds without a sign of life after which a relay counts as gone.
        """
        idle = int(silent * 1000)
        self._client.eval(_REMOVE, 1, self._stream, GROUP, idle, self._consumer)

    def leave(self) -> None:
        """Give all claims back at once, and take this relay's name out of the group."""
        self._bury_all()
        self.finish()
        with self._lock:
            numbers = [entry.number for entry in self._held.values()]
        if numbers:
            # Idle for long: another relay takes them over with its next look.
            self._reclaim(numbers, _LONG_AGO)
        else:
            pending = self._client.xpending_range(
                self._stream, GROUP, "-", "+", 1, consumername=self._consumer
            )
            if not pending:
                self._client.xgroup_delconsumer(self._stream, GROUP, self._consumer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _cut(taken: list[bytes], source: int, count: int, size: int) -> Iterator[Batch]:
    """Yield batches that fit a request; each event has its place as its number."""
    start = 0
    while start < len(taken):
        part = taken[start : start + count]
        part = part[: fitting(map(len, part), size)]
        yield Batch(part, range(start, start + len(part)), source)
        start += len(part)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the entries of an answer to XREADGROUP, in RESP2 and RESP3."""
    if not answer:
        return []
    if isinstance(answer, dict):
        found = next(iter(answer.values()))
        # RESP3 nests one list more.
        return found[0] if found and isinstance(found[0], list) else found
    return answer[0][1]  # type: ignore[no-any-return]
