"""The dead letters of a stream: send again, drop, and forget a person."""

from __future__ import annotations

from htlogging._cli.drain import Rows
from htlogging._queue.redis.entry import InvalidEntry, events, fields, lines
from htlogging._queue.redis.relay_queue import GROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from htlogging._queue.claims import Batch
    from htlogging._queue.spool.erasure import User
    from htlogging._settings.redis_location import Location

# Entries of the stream that are read, and letters that are removed, at a time.
_PAGE = 20
_PAGE_OF_LETTERS = 500


class DeadLetters(Rows):
    """
    Dead letters as a source to send from; they stay in Redis until they are delivered.

    Args:
        client: A client of redis-py.
        location: Where the stream is.
        statuses: Only those refused with one of these; empty for all.
    """

    def __init__(
        self, client: Any, location: Location, statuses: Collection[int | None]
    ) -> None:
        self._client = client
        self._key = location.dead
        self._statuses = statuses
        self._names: list[bytes] = []  # of those read so far, by their keys here
        super().__init__()

    def _found(self) -> Iterator[tuple[bytes, bytes]]:
        for name, letter in pages(self._client, self._key, _PAGE_OF_LETTERS):
            body = letter.get(b"event")  # of another program, if it has none
            if body and letter.get(b"raw") != b"1" and self._is_wanted(letter):
                yield name, body

    def _is_wanted(self, letter: dict[bytes, bytes]) -> bool:
        said = letter.get(b"status", b"")
        status = int(said) if said.isdigit() else None
        return not self._statuses or status in self._statuses

    def count(self) -> int:
        """Return how many there are to send."""
        return sum(1 for _ in self._found())

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        for name, body in self._found():
            self._names.append(name)
            yield len(self._names) - 1, body

    def _remove(self, batch: Batch) -> None:
        self._client.xdel(self._key, *(self._names[key] for key in batch.ids))


def drop(client: Any, location: Location, names: Collection[str] | None) -> int:
    """Remove dead letters, all of them if no names are given; return how many."""
    if names is not None:
        return int(client.xdel(location.dead, *names)) if names else 0
    # One after another: letters that come meanwhile stay.
    found = [name for name, _ in pages(client, location.dead, _PAGE_OF_LETTERS)]
    for start in range(0, len(found), _PAGE_OF_LETTERS):
        client.xdel(location.dead, *found[start : start + _PAGE_OF_LETTERS])
    return len(found)


def forget(
    client: Any, location: Location, user: User, *, dry_run: bool
) -> tuple[int, int]:
    """
    Remove a person's events from the stream and from the dead letters.

    Returns:
        How many waiting events and dead letters were found.
    """
    waiting = 0
    for name, found in pages(client, location.stream, _PAGE):
        bodies, kept = _without(found, user)
        waiting += len(bodies) - len(kept)
        if not dry_run and len(kept) < len(bodies):
            _replace(client, location.stream, (name, found), kept)
    gone = [
        name
        for name, letter in pages(client, location.dead, _PAGE_OF_LETTERS)
        if user.owns(letter.get(b"event", b""))
    ]
    if not dry_run:
        for start in range(0, len(gone), _PAGE_OF_LETTERS):
            client.xdel(location.dead, *gone[start : start + _PAGE_OF_LETTERS])
    return waiting, len(gone)


def _without(found: dict[bytes, bytes], user: User) -> tuple[list[bytes], list[bytes]]:
    """Return an entry's events, and those that are not of a person."""
    try:
        bodies = events(found)
    except InvalidEntry:
        return [], []
    return bodies, [body for body in bodies if not user.owns(body)]


def _replace(
    client: Any,
    stream: str,
    entry: tuple[bytes, dict[bytes, bytes]],
    kept: list[bytes],
) -> None:
    """Put an entry with these events in the place of one, in one step."""
    name, found = entry
    pipeline = client.pipeline(transaction=True)
    if kept:
        compress = found.get(b"enc") == b"gzip"
        pipeline.xadd(stream, fields(lines(kept), len(kept), compress=compress))
    pipeline.xack(stream, GROUP, name)
    pipeline.xdel(stream, name)
    pipeline.execute()


def pages(
    client: Any, key: str, size: int
) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yield the entries of a stream that were there at the start, a page at a time."""
    last = client.xrevrange(key, count=1)
    if not last:
        return
    end, start = last[0][0], b"-"
    while True:
        page = client.xrange(key, start, end, count=size)
        yield from page
        if len(page) < size:
            return
        start = b"(" + page[-1][0]
