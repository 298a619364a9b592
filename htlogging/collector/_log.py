"""What the page and its API show: the last requests, and what is wrong with them."""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timezone
from secrets import token_hex

from htlogging.collector._protocol import endpoint, sources
from htlogging.collector._schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging.collector._messages import Request

# Limits of what is kept; the oldest requests are dropped.
MAX_EVENTS = 10_000
MAX_REQUESTS = 2_000
MAX_BYTES = 32 * 1024 * 1024  # of bodies, before compression


class Entry:
    """
    A request with its number, and with what is doubtful about each of its events.

    Args:
        number: The request's number, from 1.
        first: The number of its first event.
        request: The request.
        doubts: For each event, what is doubtful about it after all earlier ones.
    """

    __slots__ = ("at", "doubts", "first", "number", "request")

    def __init__(
        self, number: int, first: int, request: Request, doubts: list[list[str]]
    ) -> None:
        self.number = number
        self.first = first
        self.request = request
        self.doubts = doubts
        self.at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")

    def summary(self) -> dict[str, Any]:
        """Return the request without its events, as JSON takes it."""
        request = self.request
        return {
            "id": self.number,
            "at": self.at,
            "method": request.method,
            "path": request.path[:500],
            "status": request.status,
            "taken": request.taken,
            "events": len(request.events),
            "bytes": len(request.raw),
            "plain_bytes": len(request.body),
            "encoding": request.headers.get("Content-Encoding") or "none",
            "user_agent": (request.headers.get("User-Agent") or "")[:200],
            "problems": [p.text for p in request.problems if p.event is None],
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events, as JSON takes them, with what is wrong with each."""
        texts: dict[int, list[str]] = {}
        for problem in self.request.problems:
            if problem.event is not None:
                texts.setdefault(id(problem.event), []).append(problem.text)
        for place, event in enumerate(self.request.events):
            yield {
                "id": self.first + place,
                "request": self.number,
                "at": self.at,
                "taken": self.request.taken,
                "status": self.request.status,
                "event": event,
                "problems": texts.get(id(event), []) + self.doubts[place],
            }


class Log:
    """
    The last requests of a collector, numbered; bounded in memory.

    Args:
        most: How many requests to keep; `MAX_REQUESTS` are the most.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MAX_REQUESTS if most is None else min(most, MAX_REQUESTS)
        # Another one after a restart: a page that was open before sees that its numbers
        # are old.
        self.run = token_hex(4)
        # Guards all below; notified by a new request, `clear` and `close`. The connections'
        # threads use it. No I/O while held. A forked child replaces it.
        self._changed = threading.Condition()
        self.clear()
        self._closed = False

    def clear(self) -> None:
        """Forget everything; numbers go on from 1 under another `run`."""
        with self._changed:
            self.run = token_hex(4)
            self._entries: deque[Entry] = deque()
            self._schema = Schema()
            self._number = self._event_number = 0
            self._held = self._bytes = 0
            self._counts = dict.fromkeys(
                ("requests", "refused", "events", "good", "bad"), 0
            )
            self._changed.notify_all()

    def add(self, request: Request) -> None:
        """Keep a request, as the last one."""
        with self._changed:
            doubts = [self._schema.doubts(event) for event in request.events]
            self._number += 1
            entry = Entry(self._number, self._event_number + 1, request, doubts)
            self._event_number += len(request.events)
            self._entries.append(entry)
            self._held += len(request.events)
            self._bytes += _size(request)
            self._count(entry)
            while len(self._entries) > 1 and (
                self._held > MAX_EVENTS
                or self._bytes > MAX_BYTES
                or len(self._entries) > self._most
            ):
                gone = self._entries.popleft().request
                self._held -= len(gone.events)
                self._bytes -= _size(gone)
            self._changed.notify_all()

    def _count(self, entry: Entry) -> None:
        self._counts["requests"] += 1
        self._counts["refused"] += not entry.request.taken
        for event in entry.events():
            bad = bool(event["problems"]) or not event["taken"]
            self._counts["events"] += bool(event["taken"])
            self._counts["bad" if bad else "good"] += 1

    def counts(self) -> dict[str, int]:
        """Return how many there were since the start or `clear`, gone ones included."""
        with self._changed:
            return {**self._counts, "kept": self._held}

    def entries(self, after: int = 0) -> list[Entry]:
        """Return the requests kept whose numbers are above this one, oldest first."""
        with self._changed:
            return [entry for entry in self._entries if entry.number > after]

    def wait(self, run: str, after: int, timeout: float) -> list[Entry] | None:
        """
        Wait for requests after this one.

        Args:
            run: The `run` that the number belongs to.
            after: A request's number.
            timeout: Seconds.

        Returns:
            The requests; an empty list after the timeout, or if `run` is an old one;
            `None` if the collector has stopped.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self.run != run or self._number > after,
                timeout,
            )
            if self._closed:
                return None
            return self.entries(after) if self.run == run else []

    def source(self, number: int) -> str | None:
        """Return the JSON of an event as it was sent; `None`: it is not kept."""
        for entry in self.entries():
            place = number - entry.first
            if 0 <= place < len(entry.request.events):
                return sources_of(entry.request)[place]
        return None

    def open(self) -> None:
        """Let pages wait again, after `close`; in a forked child, with a fresh lock."""
        self._changed = threading.Condition()
        self._closed = False

    def close(self) -> None:
        """Have all that wait return `None`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def sources_of(request: Request) -> list[str]:
    """Return the JSON of each event of a request, as it was sent."""
    if not request.events:
        return []
    kind = endpoint(request.path) or "batch"
    return sources(kind, request.body)[: len(request.events)]


def _size(request: Request) -> int:
    return len(request.raw) + len(request.body)
