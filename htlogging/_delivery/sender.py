"""Batch → request → answer → outcome: delivered, split, sent again or given up."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from contextlib import contextmanager

from htlogging._delivery.request import body
from htlogging._delivery.retry import Unreachable, Verdict, judge, wait
from htlogging._settings import MAX_BODY_EVENTS, UPLOAD_SIZE
from htlogging.exceptions import DeliveryError

# Seconds that our clock and the server's may differ.
MAX_SKEW = 300.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from htlogging._delivery.retry import Answer
    from htlogging._queue.base import Batch, Claims
    from htlogging._report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters

    class Transport(Protocol):
        """The way to the server, for one thread."""

        def open(self) -> None:
            """Prepare, so that the first `post` takes less time."""

        def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
            """Send a body once, or raise `Unreachable`."""

        def close(self) -> None:
            """Close the connection; the next `post` opens a new one."""

    class Patience(Protocol):
        """How long the sending thread may take."""

        def left(self) -> float:
            """Return the seconds left; infinite without a deadline."""

        def pause(self, seconds: float) -> bool:
            """Wait, or return `False` at once if the deadline comes first."""

        def is_last(self) -> bool:
            """Return whether this is the last chance to send."""


class Delivery:
    """
    Sends and settles batches, for all sending threads of a handler.

    Args:
        settings: The handler's write key, gzip, timeout, max_retries and on_error.
        queue: The queue of the batches.
        counters: Counts the outcomes.
        report: Reports losses and outages.
    """

    def __init__(
        self, settings: Settings, queue: Claims, counters: Counters, report: Report
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._counters = counters
        self._report = report
        # The most events of the next request. An outage makes it small, and each request
        # that gets through doubles it: a server that has just come back is not flooded.
        self._limit = MAX_BODY_EVENTS
        # Turned off by the first 415, on any thread; never turned on again.
        self._compress = settings.gzip
        # Guards _reporting, and makes settling and counting one step for threads that
        # wait for it. Not held while sending, nor while on_error runs. A forked child
        # has a Delivery of its own.
        self.settled = threading.Condition()
        # Events given up since the last call of `check`, and why the first were.
        self._given_up = 0
        self._failure: DeliveryError | None = None
        self._reporting = 0  # batches given up whose on_error has not returned

    def limit(self) -> int:
        """Return how many events the next request may have."""
        return self._limit

    def idle(self) -> bool:
        """Return whether no `on_error` is running; call it with `settled` held."""
        return not self._reporting

    def check(self) -> None:
        """
        Raise if events were given up since the last call.

        Raises:
            DeliveryError: Why the first of them were given up, and how many there are.
        """
        with self.settled:
            count, self._given_up = self._given_up, 0
            failure, self._failure = self._failure, None
        if failure is not None:
            many = f"{count} event{'' if count == 1 else 's'} given up"
            raise DeliveryError(
                failure.status,
                failure.code,
                f"{many}; {self._settings.host}: {failure.message}",
                failure.tries,
            )

    def deliver(self, batch: Batch, transport: Transport, patience: Patience) -> bool:
        """
        Send a batch until each of its events is delivered, given up or released.

        Events are released when the deadline comes and they can be sent later.

        Returns:
            Whether none was released. If some were, nothing more gets through before the
            deadline, because the next try would come after it.
        """
        parts = [batch]
        settled = True
        try:
            while parts:
                part = parts.pop()
                if part is not batch and patience.left() <= 0:
                    self._put_back(part)
                    settled = False
                    break
                verdict, failure = self._send_or_bury(part, transport, patience)
                if verdict is Verdict.SPLIT:
                    parts += reversed(self._queue.split(part))
                elif verdict is Verdict.RETRY:
                    self._put_back(part)
                    settled = False
                    break
                elif failure is None:
                    self._ack(part)
                else:
                    self.give_up(part, failure)
        finally:
            # Empty, unless a batch was released, or an exception such as Ctrl+C was
            # raised, even in on_error.
            for rest in reversed(parts):
                self._put_back(rest)
        return settled

    def deliver_once(self, batch: Batch, transport: Transport, seconds: float) -> None:
        """
        Send a batch of one event without retries: with `sync_mode`, or at exit.

        If it does not get through and outlives the process, it is released and sent
        later.

        Args:
            batch: One event.
            transport: The caller's transport.
            seconds: How long it may take.

        Raises:
            DeliveryError: The event was given up; it is counted and reported, too.
        """
        patience = _Once(seconds)
        verdict, failure = self._send_or_bury(batch, transport, patience)
        if failure is None:
            self._ack(batch)
        elif verdict is Verdict.RETRY:
            self._put_back(batch)
        else:
            self.give_up(batch, failure)
            raise failure

    def report_no_thread(self) -> None:
        """Report that events wait for a flush or the exit, for want of a thread."""
        self._report.threadless()

    def give_up(self, batch: Batch, failure: DeliveryError) -> None:
        """Count events as failed, report them, and call `on_error` with them."""
        with self._being_settled():
            if self._queue.bury(batch, failure):
                self.tell(batch.events, failure)

    @contextmanager
    def _being_settled(self) -> Iterator[None]:
        """Make threads that wait for outcomes wait until the block ends."""
        with self.settled:
            self._reporting += 1
        try:
            yield
        finally:
            with self.settled:
                self._reporting -= 1
                self.settled.notify_all()

    def tell(self, events: Sequence[bytes], failure: DeliveryError) -> None:
        """Write the line about lost events, and call `on_error` with them."""
        with self.settled:
            self._given_up += len(events)
            self._failure = self._failure or failure
        self._report.lost("failed", len(events), _told(failure, self._settings.host))
        on_error = self._settings.on_error
        if on_error is None:
            return
        try:
            on_error(failure, [json.loads(event) for event in events])
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            # on_error is the application's code on our thread: later events must go.
            self._report.raised(exc)

    def _ack(self, batch: Batch) -> None:
        self._report.working()
        self._report.delivered(len(batch))
        self._limit = min(self._limit * 2, MAX_BODY_EVENTS)
        with self._being_settled():
            self._queue.ack(batch)

    def _put_back(self, batch: Batch) -> None:
        with self.settled:
            self._queue.release(batch)
            self.settled.notify_all()

    def _send_or_bury(
        self, part: Batch, transport: Transport, patience: Patience
    ) -> tuple[Verdict, DeliveryError | None]:
        try:
            return self._send(part, transport, patience)
        except BaseException as exc:
            # An error of this package, or Ctrl+C on a caller's thread that sends. Left as
            # they are, the events would make every flush wait.
            self.give_up(part, DeliveryError(None, "internal", _name(exc)))
            raise

    def _send(
        self, part: Batch, transport: Transport, patience: Patience
    ) -> tuple[Verdict, DeliveryError | None]:
        """Try until the verdict is not RETRY, or no time is left."""
        tries, stale = 0, False
        while True:
            tries += 1
            again = stale  # at once after a stale connection, but not twice in a row
            compress = self._compress
            timeout = min(self._settings.timeout, max(patience.left(), 0.001))
            try:
                answer = self._post(part, transport, compress=compress, timeout=timeout)
            except Unreachable as exc:
                failure = DeliveryError(exc.status, exc.code, exc.reason, tries)
                verdict = Verdict.GIVE_UP if exc.final else Verdict.RETRY
                asked, stale = exc.retry_after, exc.stale
            else:
                verdict = judge(answer.status, len(part), compressed=compress)
                if verdict is Verdict.DELIVERED:
                    return verdict, None
                asked, stale = answer.retry_after, False
                failure = DeliveryError(
                    answer.status, answer.code, answer.message, tries
                )
            if verdict is Verdict.UNCOMPRESSED:
                self._compress = False
                if patience.left() <= 0:
                    return Verdict.RETRY, failure
                continue
            if verdict is not Verdict.RETRY:
                return verdict, failure
            if again or not stale:
                stale = False
                end = self._wait(part, failure, asked, patience)
                if end is not None:
                    return end
            self._counters.add("retries")

    def _wait(
        self,
        part: Batch,
        failure: DeliveryError,
        asked: float | None,
        patience: Patience,
    ) -> tuple[Verdict, DeliveryError] | None:
        """Wait before the next try, or return why there is none."""
        closing = patience.is_last() and patience.left() < math.inf
        self._report.failing(_cause(failure), closing=closing)
        self._limit = UPLOAD_SIZE
        # Events on disk are tried until the outage ends, and outlive the process. Events
        # that are in memory, because the file could not be used, do not.
        outlives = self._queue.outlives(part)
        if failure.tries > self._settings.max_retries and not outlives:
            return Verdict.GIVE_UP, failure
        if not patience.pause(wait(failure.tries, asked, _uniform)):
            lost = patience.is_last() and not outlives
            return Verdict.GIVE_UP if lost else Verdict.RETRY, failure
        if self._queue.overdue(part):
            why = DeliveryError(None, "spool", "too old", failure.tries)
            return Verdict.GIVE_UP, why
        return None

    def _post(
        self, part: Batch, transport: Transport, *, compress: bool, timeout: float
    ) -> Answer:
        """Send once, and report it at DEBUG."""
        request = body(part.events, self._settings.write_key)
        began, outcome = time.monotonic(), "interrupted"
        try:
            answer = transport.post(request, compress=compress, timeout=timeout)
            outcome = f"HTTP {answer.status}"
            if answer.date is not None:
                self._look_at_clock(answer.date)
        except Unreachable as exc:
            outcome = exc.reason
            raise
        finally:
            seconds = time.monotonic() - began
            self._report.tried(len(part), len(request), outcome, seconds)
        return answer

    def _look_at_clock(self, date: float) -> None:
        """Report a clock that is far from the server's: events have times of ours."""
        off = time.time() - date
        if abs(off) > MAX_SKEW:
            self._report.skewed(off)


class _Once:
    """The deadline of `sync_mode`: one timeout, and no retries."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def left(self) -> float:
        return self._seconds

    def pause(self, seconds: float) -> bool:  # noqa: ARG002
        return False

    def is_last(self) -> bool:
        return True


def _told(failure: DeliveryError, host: str) -> str:
    """Return the text for logs, without the server's sentence, which may quote an event."""
    status = failure.status
    tries = f"({failure.code}, tries: {failure.tries})"
    if failure.code.startswith("oauth."):
        # The refusing side has seen no event, and its sentence contains no secrets.
        return f"for {host}: {failure.message} {tries}"
    if status is None:
        at = f"{host}: " if failure.code == "network" else f"for {host}: "
        return f"{at}{failure.message} {tries}"
    question = _QUESTIONS.get(status) or _QUESTIONS.get(status // 100, "")
    return f"HTTP {status} from {host}{question} {tries}"


# What to check, by an answer's status or its first digit.
_QUESTIONS = {
    401: ": is the write key right?",
    403: ": is the write key right, and of this workspace?",
    404: ": is the path of host right?",
    413: ": the event is too large for the server",
    3: ": a redirect is never followed; set host to where it leads",
    4: ": the server finds the event invalid",
    5: ": the server has a fault",
}


def _cause(failure: DeliveryError) -> str:
    """Return the reason in a few words."""
    return failure.message if failure.status is None else f"HTTP {failure.status}"


def _name(exc: BaseException) -> str:
    return type(exc).__name__


def _uniform() -> float:
    # Not random.random(): if the application seeds it, all its processes wait equally long.
    return int.from_bytes(os.urandom(4), "big") / 2**32
