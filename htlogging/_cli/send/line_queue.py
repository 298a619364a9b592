"""The lines of a file as a queue: checked, claimed, and settled."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from itertools import islice

from htlogging._cli.drain import Lookahead, StoredSource, concerns_one
from htlogging._cli.errors import Failed
from htlogging._cli.event_lines import LineError, event_of, has_id, id_of, parse
from htlogging._cli.terminal.console import Progress, many
from htlogging._queue.claims import Batch
from htlogging.exceptions import EventTooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging._cli.send.reader import Input, Line, Occurrences
    from htlogging._cli.send.resume import State
    from htlogging._settings import Settings
    from htlogging.exceptions import DeliveryError


# A character of an event may be written as an escape of this many bytes (`\u0061`).
_ESCAPED = 6
# Bytes of a line that is parsed although it is too long, for a better error message.
_LONG = 1_000_000


class LineQueue(StoredSource):
    """
    A file's lines as a queue for one thread.

    A batch is claimed when the one before it is settled and saved in the state.

    Args:
        source: The file.
        seen: Counts equal lines.
        state: The resume position.
        settings: max_event_size.
        rate: The most events per second; `None` for no limit.
    """

    def __init__(
        self,
        source: Input,
        seen: Occurrences,
        state: State,
        settings: Settings,
        *,
        rate: float | None,
    ) -> None:
        self._source = source
        self._left: Iterator[Line] = source.lines()
        self._seen = seen
        self.state = state
        self._limit = settings.max_event_size
        self._rate = rate
        self._free_at = -math.inf  # monotonic; when the rate allows the next request
        self._events = Lookahead(iter(self._next, None))
        self.progress = Progress(source.total)
        self.valid = 0
        self.before = 0  # delivered by earlier runs
        self.unfinished = 0  # 1: the last line is invalid, and may not be complete
        self.stopped: DeliveryError | None = None  # why no more is sent
        self.broken: Failed | None = None  # why no more is read

    def request_limit(self, count: int) -> int:
        """Return the most events of a request: those of one second."""
        return count if self._rate is None else min(count, max(int(self._rate), 1))

    def skip(self) -> None:
        """
        Skip the lines that earlier runs have settled.

        Raises:
            Failed: The file does not begin with these lines, or cannot be read.
        """
        found = self.state.load()
        if found is None:
            self.progress.note("no earlier run was found: sending from the first line")
            return
        for line in islice(self._left, found["lines"]):
            self.state.add(line)
            if line.text:
                with suppress(LineError):
                    self._message_id(line)
            self._show()
        if self.state.digest.hexdigest() != found["sha256"]:
            raise Failed(
                f"{self._source.path}: its first {many(found['lines'], 'line')} differ "
                "from those that were sent; run without --resume to send all lines"
            )
        for name in ("delivered", "invalid", "refused"):
            setattr(self.state, name, found[name])
        self.before = self.state.delivered

    def claim(self, max_count: int, max_bytes: int) -> Batch | None:
        """Take the next lines' events; `None` if there are none, or sending must stop."""
        if self.stopped is not None:
            return None
        self.state.save()
        self._show()
        events: list[bytes] = []
        numbers: list[int] = []
        for line, event in self._events.take(max_count, max_bytes):
            self.state.add(line)
            events.append(event)
            numbers.append(line.number)
        self.valid += len(events)
        if not events:
            self.state.save()
            return None
        self._pace(len(events))
        return Batch(events, numbers)

    def _pace(self, count: int) -> None:
        if self._rate is None:
            return
        now = time.monotonic()
        if self._free_at > now:
            threading.Event().wait(self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self._rate

    def _next(self) -> tuple[Line, bytes] | None:
        """Return the next line that is an event; report those that are not."""
        while True:
            try:
                line = next(self._left, None)
            except Failed as exc:
                self.broken = exc
                line = None
            if line is None:
                return None
            if line.text == b"":
                self.state.add(line)
                continue
            try:
                return line, self._event(line)
            except (LineError, EventTooLarge) as exc:
                self._report(line, str(exc))

    def _event(self, line: Line) -> bytes:
        if line.text is None:
            raise LineError("it is far too long: more than 4 MiB")
        if len(line.text) > max(_ESCAPED * self._limit, _LONG):
            raise LineError(
                f"it is far too long: {len(line.text):,} bytes, and max_event_size is "
                f"{self._limit:,} bytes"
            )
        if line.text.count(b",") > self._limit:
            # The event has as many commas, so it is too large. The line is not parsed: a
            # million values would take 40 times as much memory.
            raise EventTooLarge(None, self._limit)
        given, message_id = self._message_id(line)
        return event_of(
            line.text,
            given,
            message_id=message_id,
            created=time.time(),
            limit=self._limit,
        )

    def _message_id(self, line: Line) -> tuple[dict[str, Any], str]:
        """Return a line's object, and the message id to use if it has none."""
        assert line.text
        given = parse(line.text)
        # Only lines without an id are counted, so each run counts the same.
        count = 1 if has_id(given) else self._seen.count(line.digest)
        return given, id_of(line.digest, count)

    def _report(self, line: Line, why: str) -> None:
        self.progress.note(f"line {line.number}: {why}")
        if line.ended:
            self.state.invalid += 1
            self.state.add(line)
        else:
            # Another program may be writing it: the next run looks at it again.
            self.unfinished = 1

    def _show(self) -> None:
        events = many(self.state.delivered, "event")
        self.progress.update(self._source.position(), events)

    def ack(self, batch: Batch) -> bool:
        """Count delivered events."""
        self.state.delivered += len(batch)
        return True

    def bury(self, batch: Batch, failure: DeliveryError) -> bool:
        """Report a refused event; stop if the refusal concerns all events."""
        if concerns_one(failure):
            self.state.refused += len(batch)
            for number in batch.ids:
                self.progress.note(f"line {number}: refused: {failure}")
        else:
            self.stopped = failure
        return True
